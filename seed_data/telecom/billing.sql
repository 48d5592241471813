-- The billing of the mobile operator, MySQL dialect (MySQL 8+ and MariaDB 10.11+). Times are UTC.
-- Statements are separated by a semicolon at the end of a line.

CREATE TABLE accounts (
  id          BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id BIGINT NOT NULL,
  currency    CHAR(3) NOT NULL,
  state       ENUM('open','closed') NOT NULL,
  opened_at   DATETIME(6) NOT NULL,
  closed_at   DATETIME(6) NULL,
  updated_at  DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (customer_id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE bill_cycles (
  account_id BIGINT NOT NULL PRIMARY KEY,
  cycle_day  TINYINT NOT NULL,
  time_zone  VARCHAR(40) NOT NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE credit_limits (
  account_id   BIGINT NOT NULL PRIMARY KEY,
  limit_amount DECIMAL(12,2) NOT NULL,
  currency     CHAR(3) NOT NULL,
  updated_at   DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE invoices (
  id           BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  account_id   BIGINT NOT NULL,
  number       VARCHAR(24) NOT NULL UNIQUE,
  currency     CHAR(3) NOT NULL,
  period_start DATE NOT NULL,
  period_end   DATE NOT NULL,
  issued_on    DATE NOT NULL,
  due_on       DATE NOT NULL,
  net_amount   DECIMAL(12,2) NOT NULL,
  tax_amount   DECIMAL(12,2) NOT NULL,
  total_amount DECIMAL(12,2) NOT NULL,
  state        ENUM('open','paid','overdue','cancelled') NOT NULL,
  updated_at   DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (account_id),
  KEY (state, id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE invoice_lines (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  invoice_id    BIGINT NOT NULL,
  account_id    BIGINT NOT NULL,
  subscriber_id BIGINT NULL,
  kind          ENUM('fee','usage','adjustment','discount') NOT NULL,
  description   VARCHAR(200) NOT NULL,
  quantity      DECIMAL(18,3) NOT NULL,
  net_amount    DECIMAL(12,2) NOT NULL,
  tax_amount    DECIMAL(12,2) NOT NULL,
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (invoice_id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE payments (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  account_id BIGINT NOT NULL,
  invoice_id BIGINT NULL,
  method     ENUM('direct_debit','card','bank_transfer','cash') NOT NULL,
  amount     DECIMAL(12,2) NOT NULL,
  currency   CHAR(3) NOT NULL,
  paid_at    DATETIME(6) NOT NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (invoice_id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE adjustments (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  account_id    BIGINT NOT NULL,
  subscriber_id BIGINT NULL,
  invoice_id    BIGINT NULL,
  reason        ENUM('dispute','goodwill','error') NOT NULL,
  amount        DECIMAL(12,2) NOT NULL,
  currency      CHAR(3) NOT NULL,
  agent_id      BIGINT NULL,
  made_at       DATETIME(6) NOT NULL,
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (invoice_id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE disputes (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  account_id    BIGINT NOT NULL,
  invoice_id    BIGINT NOT NULL,
  subscriber_id BIGINT NULL,
  amount        DECIMAL(12,2) NOT NULL,
  currency      CHAR(3) NOT NULL,
  reason        ENUM('usage','roaming','fee','other') NOT NULL,
  state         ENUM('open','accepted','rejected') NOT NULL,
  opened_at     DATETIME(6) NOT NULL,
  closed_at     DATETIME(6) NULL,
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (invoice_id),
  KEY (state, id)
) DEFAULT CHARSET=utf8mb4;
