-- Countries, what they look like on a map and what was measured there: every kind of geometry, keys of unusual types, an enum
-- with quotes, a set of sixty-four, JSON, numbers at their limits, sources that say the same thing twice.
SET sql_mode = 'STRICT_TRANS_TABLES';

CREATE TABLE country (
  code CHAR(3) CHARACTER SET utf8mb3 NOT NULL DEFAULT '' PRIMARY KEY,
  `Name` VARCHAR(52) CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci NOT NULL,
  Continent ENUM('Asia', 'Europe', 'North America', 'Côte d''Or', 'Oceania', '南极洲') NOT NULL DEFAULT 'Asia',
  SurfaceArea DECIMAL(10,2) UNSIGNED NOT NULL DEFAULT 0.00,
  IndepYear SMALLINT,
  founded YEAR,
  Population BIGINT UNSIGNED NOT NULL DEFAULT 0,
  LifeExpectancy DECIMAL(3,1),
  gnp DOUBLE,
  head VARCHAR(60) CHARACTER SET greek,
  outline MULTIPOLYGON,
  facts JSON,
  density DOUBLE AS (Population / SurfaceArea) STORED
);
INSERT INTO country (code, `Name`, Continent, SurfaceArea, IndepYear, founded, Population, LifeExpectancy, gnp, head, outline, facts) VALUES
  ('GRC', 'Ελλάδα', 'Europe', 131626.00, 1830, 1901, 10545700, 78.4, 120724.00, 'Κατερίνα', ST_GeomFromText('MULTIPOLYGON(((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 2,1 1)),((10 10,11 10,11 11,10 10)))'), '{"capital": "Αθήνα", "n": [1, 2.5, -0, 1e100, 18446744073709551615]}'),
  ('ata', '南极洲', '南极洲', 13120000.00, NULL, 2155, 0, NULL, NULL, '', NULL, 'null'),
  ('CIV', 'Côte d’Ivoire', 'Côte d''Or', 0.01, -32768, NULL, 18446744073709551615, -99.9, 1.7976931348623157e308, NULL, NULL, '{}'),
  ('', 'Nowhere', 'Asia', 99999999.99, 32767, 0, 1, 0.0, 5e-324, NULL, NULL, NULL),
  ('é', 'Accent', 'Asia', 1, NULL, NULL, 1, 0.0, -2.2250738585072014e-308, NULL, NULL, '[[[["deep"]]], "\\u0001 \\"🌍\\" \\\\"]');

CREATE TABLE city (
  ID MEDIUMINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `Name` CHAR(35) NOT NULL DEFAULT '',
  CountryCode CHAR(3) CHARACTER SET utf8mb3 NOT NULL DEFAULT '',
  `Where` POINT,
  KEY (CountryCode),
  FOREIGN KEY (CountryCode) REFERENCES country (code) ON UPDATE CASCADE
);
INSERT INTO city SELECT i, CONCAT(ELT(1 + i % 4, 'São ', 'Saint-', 'Новый ', ''), i), ELT(1 + i % 3, 'GRC', 'ata', 'CIV'), IF(i % 5, ST_GeomFromText(CONCAT('POINT(', i / 3, ' ', -i, ')')), NULL)
  FROM (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i FROM n) AS numbers;
INSERT INTO city VALUES (-8388608, 'lowest', '', NULL), (8388607, 'highest  ', '', NULL);

CREATE TABLE shape (
  kind ENUM('point', 'line', 'polygon', 'multi', 'collection', 'empty') NOT NULL PRIMARY KEY,
  g GEOMETRY NOT NULL,
  line LINESTRING,
  area POLYGON,
  points MULTIPOINT,
  `lines` MULTILINESTRING,
  everything GEOMETRYCOLLECTION
);
INSERT INTO shape VALUES
  ('point', ST_GeomFromText('POINT(1 -1)'), NULL, NULL, NULL, NULL, NULL),
  ('line', ST_GeomFromText('LINESTRING(0 0,1 1,2 0.5)'), ST_GeomFromText('LINESTRING(0 0,1e300 -1e-300)'), NULL, NULL, NULL, NULL),
  ('polygon', ST_GeomFromText('POLYGON((0 0,4 0,4 4,0 0))', 4326), NULL, ST_GeomFromText('POLYGON((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 1))'), NULL, NULL, NULL),
  ('multi', ST_GeomFromText('MULTIPOINT(0 0,1 1)'), NULL, NULL, ST_GeomFromText('MULTIPOINT(0 0,20 20,60 60)'), ST_GeomFromText('MULTILINESTRING((10 10,20 20),(15 15,30 15))'), NULL),
  ('collection', ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))'), NULL, NULL, NULL, NULL, ST_GeomFromText('GEOMETRYCOLLECTION(POINT(10 10),POINT(30 30),LINESTRING(15 15,20 20))'));

CREATE TABLE observation (
  at DATETIME(6) NOT NULL,
  sensor BIT(12) NOT NULL,
  depth DECIMAL(8,3) NOT NULL,
  span TIME(6) NOT NULL,
  celsius FLOAT,
  kelvin DOUBLE AS (celsius + 273.15) VIRTUAL,
  labels SET('b0','b1','b2','b3','b4','b5','b6','b7','b8','b9','b10','b11','b12','b13','b14','b15','b16','b17','b18','b19','b20','b21','b22','b23','b24','b25','b26','b27','b28','b29','b30','b31','b32','b33','b34','b35','b36','b37','b38','b39','b40','b41','b42','b43','b44','b45','b46','b47','b48','b49','b50','b51','b52','b53','b54','b55','b56','b57','b58','b59','b60','b61','b62','ß''63'),
  PRIMARY KEY (at, sensor, depth, span)
);
INSERT INTO observation (at, sensor, depth, span, celsius, labels) SELECT TIMESTAMP('2024-06-01') + INTERVAL i * 333333 MICROSECOND, i % 4096, i / 8 - 50, SEC_TO_TIME(i * 3000.000001 - 800000), i / 3 - 30, IF(i % 9, (1 << (i % 64)) | i, NULL)
  FROM (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i FROM n) AS numbers;

CREATE TABLE border (a CHAR(3), b CHAR(3), km INT, remark LONGTEXT, KEY (a, b));
INSERT INTO border VALUES ('GRC', 'CIV', 1, 'twice'), ('GRC', 'CIV', 1, 'twice'), ('grc', 'CIV', NULL, ''), (NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL), ('x', 'y', 3, REPEAT('長い\r\n', 20000));

CREATE TABLE anniversary (y YEAR NOT NULL, `day` DATE NOT NULL, what TINYTEXT, big BIGINT NOT NULL, PRIMARY KEY (y, `day`, big));
INSERT INTO anniversary VALUES (1901, '0001-01-01', 'first', -9223372036854775808), (2155, '9999-12-31', REPEAT('x', 255), 9223372036854775807), (2000, '2000-02-29', NULL, 0);

CREATE TABLE word (
  word VARCHAR(100) COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  times INT UNSIGNED NOT NULL DEFAULT 1
);
INSERT INTO word (word) VALUES ('a'), ('A'), ('á'), (' a'), ('ß'), ('ss'), ('🌍'), ('𝒳'), (''), ('\\'), ('''');

CREATE VIEW `Europe's countries` AS SELECT code, `Name`, density, ST_AsText(outline) AS outline FROM country WHERE Continent = 'Europe';
CREATE VIEW totals AS SELECT Continent, COUNT(*) AS countries, SUM(Population) AS people, MAX(facts) AS facts FROM country GROUP BY Continent;

-- changes
UPDATE country SET code = 'HEL', Population = Population + 1, facts = '{"a": 1}' WHERE code = 'GRC';
UPDATE country SET outline = ST_GeomFromText('MULTIPOLYGON(((0 0,1 0,1 1,0 0)))'), facts = '[]', gnp = -0.0 WHERE code = 'ata';
INSERT INTO country (code, `Name`, SurfaceArea, Continent, facts) VALUES ('new', 'Neu', 3, 'Oceania', '"just text"');
DELETE FROM city WHERE ID % 3 = 0;
UPDATE city SET `Name` = CONCAT('¡', `Name`, '!'), `Where` = ST_GeomFromText('POINT(7 7)') WHERE ID % 5 = 0;
UPDATE city SET ID = ID + 1000 WHERE ID BETWEEN 1 AND 20 ORDER BY ID DESC;
UPDATE shape SET kind = 'empty', g = ST_GeomFromText('GEOMETRYCOLLECTION EMPTY') WHERE kind = 'point';
UPDATE shape SET area = NULL, g = ST_GeomFromText('POINT(3 3)') WHERE kind = 'polygon';
UPDATE observation SET labels = labels + 0 ^ 1, celsius = -celsius, depth = depth + 0.001 WHERE sensor % 7 = 0;
UPDATE observation SET span = ADDTIME(span, '00:00:00.000001') WHERE sensor % 7 = 1;
DELETE FROM observation WHERE sensor % 7 = 2;
DELETE FROM border WHERE remark = 'twice' LIMIT 1;
UPDATE border SET km = 9 WHERE a IS NULL LIMIT 1;
INSERT INTO border VALUES ('GRC', 'CIV', 1, 'twice'), ('GRC', 'CIV', 1, 'twice');
UPDATE anniversary SET `day` = '1000-01-01', what = '' WHERE big = 0;
DELETE FROM anniversary WHERE big > 0;
UPDATE word SET word = 'aa', times = 4294967295 WHERE word = 'A';
DELETE FROM word WHERE word = 'a';
INSERT INTO word VALUES ('a', 2);
REPLACE INTO word VALUES ('ß', 3), ('ẞ', 4);
