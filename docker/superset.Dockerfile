# Superset with PostgreSQL's driver, which the vendor's image lacks, for docker-compose.yml.
FROM apache/superset:6.1.0

USER root
COPY softcart_assets/stack/in_superset/requirements.lock /tmp/
RUN sed -n '/^psycopg2-binary==/,/[^\]$/p' /tmp/requirements.lock >/tmp/driver.lock \
    && . /app/.venv/bin/activate \
    && uv pip install --no-cache --require-hashes --requirements /tmp/driver.lock
USER superset
