-- The fitness application, MySQL dialect (MySQL 8+ and MariaDB 10.11+). Times are UTC.
-- Statements are separated by a semicolon at the end of a line. The tables at the end are the
-- application's alone: they are no source tables, and nothing copies them.

CREATE TABLE users (
  id                 BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email              VARCHAR(254) NOT NULL,
  email_key          VARCHAR(254) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL UNIQUE,
  full_name          VARCHAR(200) NOT NULL,
  phone              VARCHAR(15) NULL,
  birth_date         DATE NULL,
  region             VARCHAR(100) NOT NULL,
  country_code       CHAR(2) NOT NULL,
  time_zone          VARCHAR(64) NOT NULL,
  email_confirmed_at DATETIME(6) NULL,
  phone_confirmed_at DATETIME(6) NULL,
  state              ENUM('active','deleted') NOT NULL DEFAULT 'active',
  created_at         DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at         DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (phone)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE consents (
  id           BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id      BIGINT NOT NULL,
  channel      ENUM('email','sms') NOT NULL,
  purpose      ENUM('reminder','quote','news') NOT NULL,
  given_at     DATETIME(6) NOT NULL,
  given_by     ENUM('page','api','seed') NOT NULL,
  wording      VARCHAR(500) NOT NULL,
  withdrawn_at DATETIME(6) NULL,
  withdrawn_by ENUM('page','link','stop','bounce','complaint') NULL,
  updated_at   DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (user_id, channel, purpose)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE quotes (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  text       VARCHAR(300) NOT NULL,
  author     VARCHAR(100) NOT NULL,
  topic      ENUM('start','persist','rest','strength','joy') NOT NULL,
  mood       ENUM('calm','firm','bright') NOT NULL,
  is_on      TINYINT(1) NOT NULL DEFAULT 1,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE goals (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  code       VARCHAR(32) NOT NULL UNIQUE,
  name       VARCHAR(100) NOT NULL,
  activity   ENUM('run','ride','swim','walk','strength','yoga') NULL,
  unit       ENUM('minutes','metres','workouts') NOT NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE user_goals (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id    BIGINT NOT NULL,
  goal_id    BIGINT NOT NULL,
  amount     DECIMAL(12,2) NOT NULL,
  started_on DATE NOT NULL,
  ended_on   DATE NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (user_id, ended_on)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE choices (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id    BIGINT NOT NULL,
  local_date DATE NOT NULL,
  kind       ENUM('workout','quote') NOT NULL,
  item       VARCHAR(64) NOT NULL,
  propensity DECIMAL(9,8) NOT NULL,
  policy     VARCHAR(32) NOT NULL,
  reason     VARCHAR(200) NOT NULL,
  shown_at   DATETIME(6) NOT NULL,
  done_at    DATETIME(6) NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  UNIQUE KEY (user_id, local_date, kind)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE clubs (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name       VARCHAR(100) NOT NULL,
  created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE club_members (
  club_id    BIGINT NOT NULL,
  user_id    BIGINT NOT NULL,
  joined_at  DATETIME(6) NOT NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  PRIMARY KEY (club_id, user_id),
  KEY (user_id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE challenges (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  club_id    BIGINT NOT NULL,
  name       VARCHAR(100) NOT NULL,
  unit       ENUM('minutes','metres','workouts') NOT NULL,
  amount     DECIMAL(12,2) NOT NULL,
  starts_on  DATE NOT NULL,
  ends_on    DATE NOT NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (club_id, ends_on)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE messages (
  id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  message_key   CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
  user_id       BIGINT NULL,
  address       VARCHAR(254) NULL,
  channel       ENUM('email','sms') NOT NULL,
  purpose       ENUM('account','reminder','quote','news') NOT NULL,
  template      VARCHAR(50) NOT NULL,
  parameters    JSON NOT NULL,
  state         ENUM('waiting','sending','sent','failed','dropped') NOT NULL DEFAULT 'waiting',
  reason        VARCHAR(500) NULL,
  attempts      INT NOT NULL DEFAULT 0,
  due_at        DATETIME(6) NOT NULL,
  expires_at    DATETIME(6) NOT NULL,
  claimed_by    VARCHAR(100) NULL,
  claimed_until DATETIME(6) NULL,
  provider_id   VARCHAR(255) NULL,
  sent_at       DATETIME(6) NULL,
  created_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (state, due_at),
  KEY (state, purpose, due_at),
  KEY (state, claimed_until),
  KEY (user_id),
  KEY (address),
  KEY (provider_id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE message_events (
  id          BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  message_id  BIGINT NOT NULL,
  event       ENUM('accepted','delivered','bounced','complained','opened','clicked',
                   'unsubscribed','stopped') NOT NULL,
  happened_at DATETIME(6) NOT NULL,
  detail      VARCHAR(500) NULL,
  updated_at  DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  UNIQUE KEY (message_id, event)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE suppressions (
  channel        ENUM('email','sms') NOT NULL,
  address_digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  reason         ENUM('bounce','complaint','stop') NOT NULL,
  since          DATETIME(6) NOT NULL,
  updated_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  PRIMARY KEY (channel, address_digest)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE credentials (
  user_id       BIGINT NOT NULL PRIMARY KEY,
  password_hash VARCHAR(255) NOT NULL,
  changed_at    DATETIME(6) NOT NULL,
  signed_out_at DATETIME(6) NULL
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE second_factors (
  user_id     BIGINT NOT NULL PRIMARY KEY,
  secret      VARCHAR(500) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  since       DATETIME(6) NOT NULL,
  last_step   BIGINT NOT NULL,
  wrong_codes INT NOT NULL DEFAULT 0,
  wrong_at    DATETIME(6) NULL
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE recovery_codes (
  user_id    BIGINT NOT NULL,
  digest     CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  created_at DATETIME(6) NOT NULL,
  used_at    DATETIME(6) NULL,
  PRIMARY KEY (user_id, digest)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE sign_ins (
  digest     CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  user_id    BIGINT NOT NULL,
  began_at   DATETIME(6) NOT NULL,
  expires_at DATETIME(6) NOT NULL,
  KEY (user_id),
  KEY (expires_at)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE links (
  digest     CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  purpose    ENUM('confirm','reset','unsubscribe') NOT NULL,
  email      VARCHAR(254) NOT NULL,
  expires_at DATETIME(6) NOT NULL,
  used_at    DATETIME(6) NULL,
  KEY (email),
  KEY (expires_at)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE api_tokens (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id    BIGINT NOT NULL,
  digest     CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
  name       VARCHAR(100) NOT NULL,
  scopes     VARCHAR(200) NOT NULL,
  created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  expires_at DATETIME(6) NULL,
  revoked_at DATETIME(6) NULL,
  KEY (user_id)
) DEFAULT CHARSET=utf8mb4;
