# Written by `softcart derive` from softcart_assets/stack/templates; do not edit.
#
# Generates the passwords of docker-compose.yml into .env, which git ignores. Those that are there
# stay, so it can run again.
set -eu
cd "$(dirname "$0")/.."
umask 077
touch .env
for name in SOFTCART_INSPIRE_PASSWORD SOFTCART_SHOP_PASSWORD SOFTCART_CRM_PASSWORD SOFTCART_BILLING_PASSWORD SOFTCART_CHARGING_PASSWORD SOFTCART_SIGNALING_PASSWORD SOFTCART_MONGO_PASSWORD SOFTCART_STAGING_PASSWORD SOFTCART_PAGES_PASSWORD SOFTCART_SUPERSET_PASSWORD SOFTCART_SUPERSET_SECRET_KEY; do
  if ! grep -q "^$name=." .env; then
    echo "$name=$(od -An -N18 -tx1 /dev/urandom | tr -d ' \n')" >> .env
  fi
done
