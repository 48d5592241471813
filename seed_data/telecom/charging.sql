-- The charging of the mobile operator, MySQL dialect (MySQL 8+ and MariaDB 10.11+). Times are UTC.
-- Statements are separated by a semicolon at the end of a line.

CREATE TABLE tariffs (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  plan_id    BIGINT NOT NULL,
  kind       ENUM('voice','sms','data') NOT NULL,
  unit       ENUM('minute','message','megabyte') NOT NULL,
  price      DECIMAL(12,2) NOT NULL,
  currency   CHAR(3) NOT NULL,
  valid_from DATETIME(6) NOT NULL,
  valid_to   DATETIME(6) NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE balances (
  subscriber_id BIGINT NOT NULL PRIMARY KEY,
  amount        DECIMAL(12,2) NOT NULL,
  currency      CHAR(3) NOT NULL,
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE charges (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  subscriber_id BIGINT NOT NULL,
  event_id      VARCHAR(40) NULL,
  kind          ENUM('voice','sms','data','roaming','fee') NOT NULL,
  quantity      DECIMAL(18,3) NOT NULL,
  amount        DECIMAL(12,2) NOT NULL,
  currency      CHAR(3) NOT NULL,
  tariff_id     BIGINT NULL,
  event_at      DATETIME(6) NOT NULL,
  recorded_at   DATETIME(6) NOT NULL,
  reverses_id   BIGINT NULL,
  KEY (subscriber_id, event_at)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE top_ups (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  subscriber_id BIGINT NOT NULL,
  amount        DECIMAL(12,2) NOT NULL,
  currency      CHAR(3) NOT NULL,
  channel       ENUM('app','voucher','store','auto') NOT NULL,
  topped_up_at  DATETIME(6) NOT NULL,
  recorded_at   DATETIME(6) NOT NULL,
  KEY (subscriber_id)
) DEFAULT CHARSET=utf8mb4;
