-- A shop that lends films: the usual sample with stock, rentals and payments, in our own words and with what such schemas
-- bring along: enum, set, year, generated columns, a spatial column, pictures, views, a trigger, a full-text
-- table (on MariaDB without transactions), partitions, cascades.
SET sql_mode = 'ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION';

CREATE TABLE tongue (
  tongue_id TINYINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `name` CHAR(20) CHARACTER SET utf8mb3 NOT NULL,
  last_update TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
);
INSERT INTO tongue (tongue_id, `name`, last_update) VALUES
  (1, 'English', '2020-02-15 05:02:19'), (2, 'Ελληνικά', '2020-02-15 05:02:19'), (3, '日本語', '2038-01-19 03:14:07'),
  (255, 'Føroyskt  ', '1970-01-01 00:00:01');

CREATE TABLE film (
  film_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  title VARCHAR(128) NOT NULL,
  description TEXT,
  release_year YEAR,
  tongue_id TINYINT UNSIGNED NOT NULL,
  original_tongue_id TINYINT UNSIGNED,
  rental_days TINYINT UNSIGNED NOT NULL DEFAULT 3,
  rental_rate DECIMAL(4,2) NOT NULL DEFAULT 4.99,
  length SMALLINT UNSIGNED,
  replacement_cost DECIMAL(5,2) NOT NULL DEFAULT 19.99,
  rating ENUM('all', '6+', '12+', '16+', '18+', 'it''s complicated') DEFAULT 'all',
  extras SET('trailers', 'commentaries', 'deleted scenes', 'behind the scenes; uncut') DEFAULT NULL,
  per_day DECIMAL(8,4) AS (rental_rate / rental_days) STORED,
  shelf VARCHAR(20) AS (CONCAT(UPPER(LEFT(title, 1)), '-', LPAD(length DIV 10, 4, '0'))) VIRTUAL,
  facts JSON,
  last_update TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
  KEY (title),
  CONSTRAINT film_tongue FOREIGN KEY (tongue_id) REFERENCES tongue (tongue_id) ON UPDATE CASCADE,
  CONSTRAINT film_original FOREIGN KEY (original_tongue_id) REFERENCES tongue (tongue_id) ON DELETE SET NULL ON UPDATE CASCADE
) COMMENT = 'One row per film, whether or not a copy is in stock.';

CREATE TABLE film_text (
  film_id SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
  title VARCHAR(255) NOT NULL,
  description TEXT,
  FULLTEXT KEY title_description (title, description)
) /*M!100000 ENGINE = MyISAM */;

CREATE TRIGGER film_is_new AFTER INSERT ON film FOR EACH ROW
  INSERT INTO film_text (film_id, title, description) VALUES (NEW.film_id, NEW.title, NEW.description);
CREATE TRIGGER film_is_changed AFTER UPDATE ON film FOR EACH ROW
  UPDATE film_text SET title = NEW.title, description = NEW.description WHERE film_id = OLD.film_id;
CREATE TRIGGER film_is_gone AFTER DELETE ON film FOR EACH ROW DELETE FROM film_text WHERE film_id = OLD.film_id;

INSERT INTO film (film_id, title, description, release_year, tongue_id, original_tongue_id, rental_days, rental_rate, length, rating, extras, facts, last_update)
  SELECT i, CONCAT(ELT(1 + i % 5, 'Amélie''s ', 'The Last ', 'Ночной ', '"Quoted" ', 'Über '), ELT(1 + i % 7, 'Dinosaur', '怪獣', 'Sunset 🌇', 'Café', 'Back\\slash', 'Mirror', 'Õhtu'), ' ', i),
    IF(i % 9 = 0, NULL, REPEAT(CONCAT('A tale of ', i, ' parts.\n'), i % 40)), IF(i % 11 = 0, NULL, 1901 + i % 255),
    1 + i % 3, IF(i % 4 = 0, NULL, 1 + i % 3), 1 + i % 7, ROUND(i % 10 + 0.99, 2), IF(i % 13 = 0, NULL, i),
    IF(i % 17 = 0, NULL, 1 + i % 6), IF(i % 5 = 0, NULL, i % 16),
    IF(i % 6 = 0, NULL, JSON_OBJECT('id', i, 'tags', JSON_ARRAY('a', 'ß', i / 7), 'nested', JSON_OBJECT('🎬', NULL))),
    TIMESTAMP('2021-03-04 05:06:07.123') + INTERVAL i MINUTE
  FROM (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 400) SELECT i FROM n) AS numbers;

CREATE TABLE actor (
  actor_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  first_name VARCHAR(45) CHARACTER SET latin1 NOT NULL,
  last_name VARCHAR(45) CHARACTER SET latin1 COLLATE latin1_german1_ci NOT NULL,
  `full name` VARCHAR(91) AS (CONCAT(first_name, ' ', last_name)) VIRTUAL
);
INSERT INTO actor (first_name, last_name) VALUES
  ('Zoë', 'Müller'), ('François', 'Œuvrard'), ('€rik', 'Þórsson'), ('  Ann ', 'O''Neil'), ('', '–');

CREATE TABLE film_actor (
  actor_id SMALLINT UNSIGNED NOT NULL,
  film_id SMALLINT UNSIGNED NOT NULL,
  `role` VARCHAR(60),
  PRIMARY KEY (actor_id, film_id),
  FOREIGN KEY (actor_id) REFERENCES actor (actor_id) ON DELETE CASCADE ON UPDATE CASCADE,
  FOREIGN KEY (film_id) REFERENCES film (film_id) ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO film_actor SELECT actor_id, film_id, IF(film_id % 3 = 0, NULL, CONCAT('№ ', film_id)) FROM film JOIN actor ON film_id % 5 = actor_id % 5;

CREATE TABLE address (
  address_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  street VARCHAR(50) NOT NULL,
  `postal code` VARCHAR(10) CHARACTER SET ascii,
  phone BIGINT(12) UNSIGNED ZEROFILL,
  place POINT NOT NULL /*!80003 SRID 4326 */,
  SPATIAL KEY (place)
);
INSERT INTO address VALUES
  (1, '47 MySakila-free Lane', '00501', 14033335568, ST_GeomFromText('POINT(52.5 13.25)', 4326)),
  (2, 'Straße des 17. Juni', NULL, 0, ST_GeomFromText('POINT(-89.75 -0.000001)', 4326)),
  (3, '上海路 8', '', NULL, ST_GeomFromText('POINT(0 0)', 4326));

CREATE TABLE staff (
  staff_id TINYINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  first_name VARCHAR(45) NOT NULL,
  address_id SMALLINT UNSIGNED NOT NULL,
  picture BLOB,
  thumbnail TINYBLOB,
  active BOOLEAN NOT NULL DEFAULT TRUE,
  username VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  password_hash BINARY(20) DEFAULT NULL,
  fired_by TINYINT UNSIGNED INVISIBLE DEFAULT NULL,
  FOREIGN KEY (address_id) REFERENCES address (address_id),
  FOREIGN KEY (fired_by) REFERENCES staff (staff_id)
);
INSERT INTO staff (staff_id, first_name, address_id, picture, thumbnail, active, username, password_hash, fired_by) VALUES
  (1, 'Mike', 1, UNHEX(CONCAT('89504E470D0A1A0A', REPEAT('00FF5C270A', 10000))), x'', 1, 'Mike', UNHEX(LEFT(SHA2('12345', 256), 40)), NULL),
  (2, 'Jon', 2, NULL, x'00', 0, 'mike', x'01', 1),
  (3, 'Ὀδυσσεύς', 2, x'', UNHEX(REPEAT('FE', 255)), 1, '🐴', NULL, 1);

CREATE TABLE customer (
  customer_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email VARCHAR(50) COLLATE utf8mb4_unicode_ci UNIQUE,
  address_id SMALLINT UNSIGNED NOT NULL,
  create_date DATETIME NOT NULL,
  discount FLOAT NOT NULL DEFAULT 0,
  FOREIGN KEY (address_id) REFERENCES address (address_id)
);
INSERT INTO customer SELECT i, IF(i % 10 = 0, NULL, CONCAT('Person.', i, '@exämple.org')), 1 + i % 3, TIMESTAMP('1999-12-31 23:59:59') + INTERVAL i * 3601 SECOND, i / 7
  FROM (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i FROM n) AS numbers;

CREATE TABLE rental (
  rental_id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  rental_date DATETIME NOT NULL,
  film_id SMALLINT UNSIGNED NOT NULL,
  customer_id INT UNSIGNED NOT NULL,
  return_date DATETIME,
  late_days INT AS (DATEDIFF(return_date, rental_date) - 7) VIRTUAL,
  UNIQUE KEY (rental_date, film_id, customer_id),
  FOREIGN KEY (film_id) REFERENCES film (film_id) ON DELETE CASCADE ON UPDATE CASCADE,
  FOREIGN KEY (customer_id) REFERENCES customer (customer_id) ON DELETE CASCADE
);
INSERT INTO rental (rental_date, film_id, customer_id, return_date)
  SELECT TIMESTAMP('2024-02-28 22:53:30') + INTERVAL i * 977 SECOND, 1 + i % 400, 1 + i * 7 % 300, IF(i % 8 = 0, NULL, TIMESTAMP('2024-03-05 01:02:03') + INTERVAL i HOUR)
  FROM (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n) AS numbers;

CREATE TABLE payment (
  payment_id INT NOT NULL,
  customer_id INT UNSIGNED NOT NULL,
  amount DECIMAL(5,2) NOT NULL,
  payment_date DATETIME NOT NULL,
  PRIMARY KEY (payment_id, payment_date)
)
PARTITION BY RANGE (YEAR(payment_date)) (
  PARTITION before2024 VALUES LESS THAN (2024), PARTITION in2024 VALUES LESS THAN (2025), PARTITION later VALUES LESS THAN MAXVALUE
);
INSERT INTO payment SELECT i, 1 + i % 300, i % 1000 / 100 - 1, TIMESTAMP('2023-06-01') + INTERVAL i DAY
  FROM (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n) AS numbers;

CREATE VIEW film_list AS
  SELECT film.film_id AS FID, title, tongue.`name` AS `tongue's "name"`, rental_rate AS `price %`, per_day, shelf, GROUP_CONCAT(`full name` ORDER BY actor_id SEPARATOR ', ') AS actors
  FROM film JOIN tongue USING (tongue_id) LEFT JOIN film_actor USING (film_id) LEFT JOIN actor USING (actor_id)
  GROUP BY film.film_id, title, tongue.`name`, rental_rate, per_day, shelf;
CREATE VIEW `sales by year` AS SELECT YEAR(payment_date) AS `year`, SUM(amount) AS total, AVG(amount) AS mean, COUNT(*) AS `count` FROM payment GROUP BY YEAR(payment_date);

-- changes
INSERT INTO film (title, tongue_id, rating, extras) VALUES ('Brand new', 2, NULL, 'trailers,deleted scenes'), ('🎞', 1, '18+', '');
UPDATE film SET rental_rate = rental_rate + 1, facts = JSON_SET(COALESCE(facts, '{}'), '$.more', '''"'), last_update = '2024-05-05 05:05:05.555' WHERE film_id % 10 = 3;
UPDATE film SET film_id = 1000 WHERE film_id = 5;
DELETE FROM film WHERE film_id % 50 = 7;
DELETE FROM actor WHERE actor_id = 2;
UPDATE actor SET actor_id = 77, last_name = 'Ümlaut' WHERE actor_id = 1;
UPDATE tongue SET tongue_id = 9 WHERE tongue_id = 3;
DELETE FROM tongue WHERE tongue_id = 255;
UPDATE staff SET picture = REVERSE(picture), fired_by = 3, password_hash = x'0000' WHERE staff_id <= 2;
UPDATE address SET place = ST_GeomFromText('POINT(1.5 -2.5)', 4326), phone = phone + 1;
DELETE FROM customer WHERE customer_id BETWEEN 10 AND 20;
REPLACE INTO customer VALUES (1, 'PERSON.2@exämple.org', 1, '2024-01-01 00:00:00', -0.1);
INSERT INTO customer VALUES (3, NULL, 1, '2024-01-01 00:00:00', 0) ON DUPLICATE KEY UPDATE email = 'new.3@exämple.org', discount = discount * 2;
UPDATE payment SET payment_date = '2025-12-31 23:59:59' WHERE payment_id % 100 = 1;
UPDATE payment SET amount = -amount WHERE payment_id % 100 = 2;
DELETE FROM payment WHERE payment_date < '2023-07-01';
UPDATE rental JOIN customer USING (customer_id) SET return_date = '2024-06-06 06:06:06', discount = 0.5 WHERE rental_id % 40 = 0;
