-- The CRM of the mobile operator, MySQL dialect (MySQL 8+ and MariaDB 10.11+). Times are UTC.
-- Statements are separated by a semicolon at the end of a line.

CREATE TABLE customers (
  id                BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  full_name         VARCHAR(200) NOT NULL,
  email             VARCHAR(254) NULL,
  phone             VARCHAR(32) NULL,
  birth_date        DATE NULL,
  gender            ENUM('f','m','x') NULL,
  kind              ENUM('private','business') NOT NULL,
  street            VARCHAR(200) NULL,
  city              VARCHAR(100) NULL,
  region            VARCHAR(100) NULL,
  postal_code       VARCHAR(16) NULL,
  country_code      CHAR(2) NOT NULL,
  marketing_consent TINYINT(1) NOT NULL DEFAULT 0,
  created_at        DATETIME(6) NOT NULL,
  updated_at        DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE agents (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  full_name  VARCHAR(200) NOT NULL,
  email      VARCHAR(254) NOT NULL,
  team       ENUM('sales','service','retention','billing') NOT NULL,
  hired_on   DATE NOT NULL,
  left_on    DATE NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE plans (
  id               BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  code             VARCHAR(16) NOT NULL UNIQUE,
  name             VARCHAR(100) NOT NULL,
  kind             ENUM('prepaid','postpaid') NOT NULL,
  currency         CHAR(3) NOT NULL,
  monthly_fee      DECIMAL(12,2) NOT NULL,
  included_minutes INT NOT NULL,
  included_sms     INT NOT NULL,
  included_mb      INT NOT NULL,
  is_on_sale       TINYINT(1) NOT NULL,
  created_at       DATETIME(6) NOT NULL,
  updated_at       DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE subscribers (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id   BIGINT NOT NULL,
  account_id    BIGINT NULL,
  msisdn        VARCHAR(16) NOT NULL,
  imsi          VARCHAR(16) NOT NULL,
  kind          ENUM('prepaid','postpaid') NOT NULL,
  state         ENUM('active','suspended','cancelled') NOT NULL,
  plan_id       BIGINT NOT NULL,
  region        VARCHAR(100) NULL,
  time_zone     VARCHAR(40) NOT NULL,
  activated_at  DATETIME(6) NOT NULL,
  cancelled_at  DATETIME(6) NULL,
  cancel_reason ENUM('network','service','price','moved','other') NULL,
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (msisdn),
  KEY (customer_id),
  KEY (account_id),
  KEY (state, id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE subscriptions (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  subscriber_id BIGINT NOT NULL,
  plan_id       BIGINT NOT NULL,
  started_at    DATETIME(6) NOT NULL,
  ended_at      DATETIME(6) NULL,
  agent_id      BIGINT NULL,
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (subscriber_id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE sales (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id   BIGINT NOT NULL,
  subscriber_id BIGINT NOT NULL,
  agent_id      BIGINT NULL,
  plan_id       BIGINT NOT NULL,
  channel       ENUM('store','phone','online') NOT NULL,
  amount        DECIMAL(12,2) NOT NULL,
  currency      CHAR(3) NOT NULL,
  sold_at       DATETIME(6) NOT NULL,
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE interactions (
  id               BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id      BIGINT NOT NULL,
  subscriber_id    BIGINT NULL,
  agent_id         BIGINT NULL,
  channel          ENUM('phone','chat','email','store') NOT NULL,
  topic            ENUM('network','billing','plan','device','cancellation','other') NOT NULL,
  outcome          ENUM('solved','escalated','follow_up','abandoned') NOT NULL,
  started_at       DATETIME(6) NOT NULL,
  duration_seconds INT NOT NULL,
  updated_at       DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (subscriber_id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE complaints (
  id             BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id    BIGINT NOT NULL,
  subscriber_id  BIGINT NULL,
  interaction_id BIGINT NULL,
  agent_id       BIGINT NULL,
  category       ENUM('network','billing','service','device') NOT NULL,
  state          ENUM('open','resolved','rejected') NOT NULL,
  opened_at      DATETIME(6) NOT NULL,
  closed_at      DATETIME(6) NULL,
  resolution     VARCHAR(200) NULL,
  updated_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (subscriber_id),
  KEY (state, id)
) DEFAULT CHARSET=utf8mb4;
