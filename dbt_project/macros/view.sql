{#-
  Views are replaced in place. dbt's own way swaps a new view in and drops the old one with every view
  that reads it: to build one staging view alone would take the intermediate models with it.
  PostgreSQL replaces a view in place only if its columns stay and new ones come last. For any other
  change the old view goes, with what reads it.
-#}
{% materialization view, adapter='postgres' %}
    {%- set target = this.incorporate(type='view') -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if existing is not none and not is_extended_by(existing, sql) -%}
        {%- do adapter.drop_relation(existing) -%}
    {%- endif -%}
    {% call statement('main') -%}
        {{ get_create_view_as_sql(target, sql) | replace('create view', 'create or replace view', 1) }}
    {%- endcall %}
    {%- do persist_docs(target, model) -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{#-
  Whether a view has the columns that a query begins with, in their order and of their types. dbt's
  own columns of a query do not tell numeric(18, 2) from numeric(24, 2).
-#}
{% macro is_extended_by(relation, query) %}
    {%- if not relation.is_view -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set columns -%}
        select attnum, attname, atttypid, atttypmod, attcollation from pg_attribute
        where attnum > 0 and attrelid
    {%- endset -%}
    {%- do run_query('create temporary view as_queried as ' ~ query) -%}
    {%- set lost = run_query(
        columns ~ " = '" ~ relation.include(database=false) ~ "'::regclass except "
        ~ columns ~ " = 'pg_temp.as_queried'::regclass"
    ) -%}
    {%- do run_query('drop view pg_temp.as_queried') -%}
    {{ return(lost | length == 0) }}
{% endmacro %}
