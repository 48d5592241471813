CREATE TABLE customers (
  id        int NOT NULL PRIMARY KEY,
  full_name varchar(100) NOT NULL
);

CREATE TABLE visits (
  id          int NOT NULL PRIMARY KEY,
  customer_id int,
  drink_id    varchar(20) NOT NULL,
  amount      decimal(12, 2) NOT NULL,
  visited_at  datetime(6) NOT NULL
);
