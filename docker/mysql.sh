# Written by `softcart derive` from softcart_assets/stack/templates; do not edit.
#
# One database and one user for each MySQL source. The image mysql reads this file into its own
# script, once, when its volume is empty. The passwords come from docker-compose.yml.

# A text of SQL with this content. A password may have any character.
quoted() {
  local quote="'" text=${1//\\/\\\\}
  echo "'${text//$quote/$quote$quote}'"
}

docker_process_sql <<SQL
CREATE DATABASE \`inspire\` CHARACTER SET utf8mb4;
CREATE USER \`inspire\` IDENTIFIED BY $(quoted "${SOFTCART_INSPIRE_PASSWORD}");
GRANT ALL ON \`inspire\`.* TO \`inspire\`;
-- What a reader of change data needs besides.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO \`inspire\`;
CREATE DATABASE \`shop\` CHARACTER SET utf8mb4;
CREATE USER \`shop\` IDENTIFIED BY $(quoted "${SOFTCART_SHOP_PASSWORD}");
GRANT ALL ON \`shop\`.* TO \`shop\`;
-- What a reader of change data needs besides.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO \`shop\`;
CREATE DATABASE \`crm\` CHARACTER SET utf8mb4;
CREATE USER \`crm\` IDENTIFIED BY $(quoted "${SOFTCART_CRM_PASSWORD}");
GRANT ALL ON \`crm\`.* TO \`crm\`;
-- What a reader of change data needs besides.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO \`crm\`;
CREATE DATABASE \`billing\` CHARACTER SET utf8mb4;
CREATE USER \`billing\` IDENTIFIED BY $(quoted "${SOFTCART_BILLING_PASSWORD}");
GRANT ALL ON \`billing\`.* TO \`billing\`;
-- What a reader of change data needs besides.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO \`billing\`;
CREATE DATABASE \`charging\` CHARACTER SET utf8mb4;
CREATE USER \`charging\` IDENTIFIED BY $(quoted "${SOFTCART_CHARGING_PASSWORD}");
GRANT ALL ON \`charging\`.* TO \`charging\`;
-- What a reader of change data needs besides.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO \`charging\`;
CREATE DATABASE \`signaling\` CHARACTER SET utf8mb4;
CREATE USER \`signaling\` IDENTIFIED BY $(quoted "${SOFTCART_SIGNALING_PASSWORD}");
GRANT ALL ON \`signaling\`.* TO \`signaling\`;
-- What a reader of change data needs besides.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO \`signaling\`;
SQL
