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
CREATE DATABASE \`shop\` CHARACTER SET utf8mb4;
CREATE USER \`shop\` IDENTIFIED BY $(quoted "${SOFTCART_SHOP_PASSWORD}");
GRANT ALL ON \`shop\`.* TO \`shop\`;
-- What a reader of change data needs besides.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO \`shop\`;
SQL
