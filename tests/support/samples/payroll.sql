-- A company's staff and pay: a string key with leading zeros, periods that never end, zero dates, binary and missing keys,
-- a self-reference, other alphabets in their old character sets, names that need quoting.
SET sql_mode = '';

CREATE TABLE department (
  dept_no CHAR(4) CHARACTER SET latin1 NOT NULL PRIMARY KEY,
  dept_name VARCHAR(40) NOT NULL UNIQUE,
  budget DECIMAL(65,30),
  parent CHAR(4) CHARACTER SET latin1,
  FOREIGN KEY (parent) REFERENCES department (dept_no) ON DELETE SET NULL ON UPDATE CASCADE
);
INSERT INTO department VALUES
  ('d001', 'Marketing', 12345678901234567890123456789012345.123456789012345678901234567890, NULL),
  ('D2', 'Finance', -0.000000000000000000000000000001, 'd001'), ('0d', 'ÄÖÜ ß', 0, 'd001'), ('', 'No number', NULL, 'D2');

CREATE TABLE Employee (
  emp_no CHAR(8) NOT NULL PRIMARY KEY,
  birth_date DATE NOT NULL,
  first_name VARCHAR(14) NOT NULL,
  lastName VARCHAR(16) CHARACTER SET cp1251 NOT NULL,
  `имя` VARCHAR(30) CHARACTER SET utf16,
  `名前` VARCHAR(30) CHARACTER SET gbk,
  gender ENUM('M', 'F', 'X', '') NOT NULL,
  hire_date DATE NOT NULL DEFAULT '0000-00-00',
  shift TIME(2),
  flags BIT(10) NOT NULL DEFAULT b'0',
  manager CHAR(8),
  age_at_hire SMALLINT AS (CAST(YEAR(hire_date) AS SIGNED) - CAST(YEAR(birth_date) AS SIGNED)) STORED,
  FOREIGN KEY (manager) REFERENCES Employee (emp_no) ON DELETE SET NULL
) COMMENT 'One row per employee, past ones included.';
INSERT INTO Employee (emp_no, birth_date, first_name, lastName, `имя`, `名前`, gender, hire_date, shift, flags, manager)
  SELECT LPAD(i, 8, '0'), DATE('1950-02-28') + INTERVAL i DAY, CONCAT('Name', CHAR(64 + i % 26)), CONCAT('Иванов', i), IF(i % 3, 'Имя 🙂', NULL), IF(i % 4, '汉字漢字', ''),
    1 + i % 4, IF(i % 100 = 0, '0000-00-00', IF(i % 100 = 50, '2001-02-00', DATE('1985-01-01') + INTERVAL i * 3 DAY)),
    SEC_TO_TIME(i * 1000 - 300000) + INTERVAL 0 SECOND, i, IF(i > 1, '00000001', NULL)
  FROM (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i FROM n) AS numbers;

CREATE TABLE employee (
  id BINARY(16) NOT NULL PRIMARY KEY,
  emp_no CHAR(8),
  badge VARBINARY(32) NOT NULL
) COMMENT = 'Beside `Employee`, and not the same: the door badges.';
INSERT INTO employee VALUES (UNHEX(REPEAT('00', 16)), '00000001', x''), (UNHEX(REPEAT('FF', 16)), '00000002', x'00'), (UNHEX(LEFT(SHA2('x', 256), 32)), NULL, x'5C00270A'), ('short', NULL, 'text');

CREATE TABLE salary (
  emp_no CHAR(8) NOT NULL,
  from_date DATE NOT NULL,
  to_date DATE NOT NULL,
  amount INT NOT NULL,
  monthly DOUBLE AS (amount / 12) VIRTUAL,
  PRIMARY KEY (emp_no, from_date),
  FOREIGN KEY (emp_no) REFERENCES Employee (emp_no) ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO salary (emp_no, from_date, to_date, amount)
  SELECT emp_no, DATE('1990-01-01') + INTERVAL y YEAR, IF(y = 3, '9999-01-01', DATE('1990-01-01') + INTERVAL y + 1 YEAR), 40000 + y * 1000 + flags
  FROM Employee CROSS JOIN (SELECT 0 AS y UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) AS years;

CREATE TABLE login (
  token VARBINARY(64) NOT NULL,
  emp_no CHAR(8) NOT NULL,
  at DATETIME(6) NOT NULL,
  UNIQUE KEY by_token (token)
);
INSERT INTO login VALUES (x'', '00000001', '2024-01-01 00:00:00.000001'), (x'00', '00000001', '2024-01-01 00:00:00.1'), (x'0000', '00000002', '1000-01-01'), ('a', '3', '9999-12-31 23:59:59.999999'), ('A', '3', '2024-02-29 12:00:00');

CREATE TABLE `door log` (
  at TIMESTAMP(6) NULL,
  door VARCHAR(20) COLLATE utf8mb4_general_ci,
  direction ENUM('in', 'out'),
  degrees FLOAT
);
INSERT INTO `door log` VALUES ('2024-01-01 08:00:00', 'north', 'in', 0.1), ('2024-01-01 08:00:00', 'north', 'in', 0.1), ('2024-01-01 08:00:00', 'NORTH', 'out', -0.0), (NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL), ('2024-01-01 08:00:00.000001', 'ﬁ', 'nonsense', 3.4e38);

CREATE TABLE `Größen & "Maße" 50% 'off'` (
  `select` INT NOT NULL,
  `from` VARCHAR(10) NOT NULL,
  `a"b'c``d\e` INT,
  `%s {0} $1 :x` VARCHAR(30) DEFAULT '%s {0} $1 :x',
  `CamelCase` BOOLEAN,
  ` leading` CHAR(3) CHARACTER SET ucs2,
  PRIMARY KEY (`from`, `select`)
);
INSERT INTO `Größen & "Maße" 50% 'off'` VALUES (1, 'a', 1, DEFAULT, TRUE, 'ab'), (1, 'B', NULL, '\\N', FALSE, ''), (2, 'ß', -1, '\t', NULL, NULL), (2, 'SSS', 0, '\0x', NULL, 'ы');

CREATE TABLE `TCP/IP` (`group` SMALLINT NOT NULL, `order` SMALLINT NOT NULL, note MEDIUMTEXT, PRIMARY KEY (`order`, `group`)) PARTITION BY HASH (`group`) PARTITIONS 4;
INSERT INTO `TCP/IP` SELECT i % 7, i, REPEAT('ñ', i) FROM (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i FROM n) AS numbers;

CREATE TABLE heap (id INT PRIMARY KEY, v VARCHAR(10)) ENGINE = MEMORY;
INSERT INTO heap VALUES (1, 'x'), (2, NULL);
CREATE TABLE archive (id INT NOT NULL, v VARCHAR(10), UNIQUE (id)) ENGINE = MyISAM;
INSERT INTO archive VALUES (1, 'x'), (2, NULL);

/*M!100000 CREATE TABLE ledger (id INT PRIMARY KEY, amount DECIMAL(10,2), who UUID, from_ip INET6, from_ip4 INET4) ENGINE = Aria */;
/*M!100000 INSERT INTO ledger VALUES (1, 1.5, '123e4567-e89b-12d3-a456-426655440000', '2001:db8::ff00:42:8329', '10.0.0.1'), (2, NULL, NULL, NULL, NULL) */;
/*M!100000 CREATE TABLE contract (id UUID PRIMARY KEY, ip INET6 NOT NULL, pay DECIMAL(10,2)) WITH SYSTEM VERSIONING */;
/*M!100000 INSERT INTO contract VALUES ('123e4567-e89b-12d3-a456-426655440000', '::1', 1), ('00000000-0000-0000-0000-000000000000', 'ffff::', 2) */;
/*M!100000 UPDATE contract SET pay = pay + 1 */;
/*!90000 CREATE TABLE face (id INT PRIMARY KEY, features VECTOR(4)) */;
/*!90000 INSERT INTO face VALUES (1, STRING_TO_VECTOR('[1,-2.5,0,3e38]')), (2, NULL) */;

CREATE VIEW current_salary AS SELECT emp_no, amount, RANK() OVER (ORDER BY amount DESC) AS `rank` FROM salary WHERE to_date = '9999-01-01';
CREATE VIEW `Größte %` AS SELECT dept_name, budget FROM department WHERE budget > 0;

-- changes
SET sql_mode = '';
UPDATE department SET dept_no = 'D22', parent = 'D2' WHERE dept_no = '0d';
DELETE FROM department WHERE dept_no = 'd001';
UPDATE Employee SET hire_date = '2000-01-01' WHERE emp_no = '00000100';
UPDATE Employee SET hire_date = '0000-00-00' WHERE emp_no = '00000101';
UPDATE Employee SET lastName = CONCAT(lastName, 'ъ'), `имя` = '𝒳', `名前` = NULL, shift = '-838:59:59.99' WHERE emp_no LIKE '%7';
DELETE FROM Employee WHERE emp_no IN ('00000050', '00000200', '00000033');
UPDATE Employee SET emp_no = 'x' WHERE emp_no = '00000299';
DELETE FROM salary WHERE emp_no = '00000007';
UPDATE salary SET from_date = from_date + INTERVAL 1 DAY, amount = amount * 2 WHERE emp_no = '00000008';
UPDATE employee SET id = UNHEX(REPEAT('0F', 16)), badge = REVERSE(badge) WHERE emp_no = '00000002';
DELETE FROM login WHERE token = 'A';
UPDATE login SET token = 'Aa', at = at - INTERVAL 1 MICROSECOND WHERE token = 'a';
REPLACE INTO login VALUES (x'00', '9', '2024-12-31 00:00:00');
DELETE FROM `door log` WHERE door = 'north' LIMIT 1;
INSERT INTO `door log` VALUES (NULL, NULL, NULL, NULL), ('2024-01-02 08:00:00', 'x', 'in', 1e-30);
UPDATE `door log` SET degrees = 7 WHERE direction IS NULL LIMIT 1;
UPDATE `Größen & "Maße" 50% 'off'` SET `from` = 'A', `a"b'c``d\e` = 5 WHERE `from` = 'a';
UPDATE `Größen & "Maße" 50% 'off'` SET `%s {0} $1 :x` = 'mended' WHERE `select` = 2;
TRUNCATE TABLE `TCP/IP`;
INSERT INTO `TCP/IP` VALUES (1, 1, 'after'), (2, 1, '');
UPDATE heap SET v = 'y';
DELETE FROM archive WHERE id = 1;
/*M!100000 UPDATE ledger SET from_ip = '::', who = UUID() WHERE id = 1 */;
/*M!100000 UPDATE contract SET pay = pay * 2, ip = '::2' WHERE pay = 2 */;
/*M!100000 DELETE FROM contract WHERE pay = 3 */;
/*!90000 UPDATE face SET features = STRING_TO_VECTOR('[0,0,0,1e-37]') WHERE id = 2 */;
