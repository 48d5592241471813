-- The records of the mobile network, MySQL dialect (MySQL 8+ and MariaDB 10.11+). Times are UTC.
-- Statements are separated by a semicolon at the end of a line.

CREATE TABLE call_records (
  id               BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_id         VARCHAR(40) NOT NULL,
  subscriber_id    BIGINT NOT NULL,
  msisdn           VARCHAR(16) NOT NULL,
  direction        ENUM('out','in') NOT NULL,
  other_msisdn     VARCHAR(16) NULL,
  started_at       DATETIME(6) NOT NULL,
  duration_seconds INT NOT NULL,
  termination      ENUM('normal','dropped','busy','no_answer') NOT NULL,
  cell_id          INT NOT NULL,
  region           VARCHAR(100) NULL,
  recorded_at      DATETIME(6) NOT NULL,
  KEY (event_id),
  KEY (subscriber_id, started_at)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE sms_records (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_id      VARCHAR(40) NOT NULL,
  subscriber_id BIGINT NOT NULL,
  msisdn        VARCHAR(16) NOT NULL,
  direction     ENUM('out','in') NOT NULL,
  other_msisdn  VARCHAR(16) NULL,
  sent_at       DATETIME(6) NOT NULL,
  parts         TINYINT NOT NULL,
  recorded_at   DATETIME(6) NOT NULL,
  KEY (event_id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE data_sessions (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_id      VARCHAR(40) NOT NULL,
  subscriber_id BIGINT NOT NULL,
  msisdn        VARCHAR(16) NOT NULL,
  started_at    DATETIME(6) NOT NULL,
  ended_at      DATETIME(6) NOT NULL,
  megabytes     DECIMAL(18,3) NOT NULL,
  cell_id       INT NOT NULL,
  region        VARCHAR(100) NULL,
  recorded_at   DATETIME(6) NOT NULL,
  KEY (event_id)
) DEFAULT CHARSET=utf8mb4;
