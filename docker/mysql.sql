-- What a reader of change data needs besides its rights on the database; see .env.example.
GRANT REPLICATION SLAVE, REPLICATION CLIENT, RELOAD ON *.* TO softcart;
