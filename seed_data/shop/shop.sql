-- The shop's operational schema, MySQL dialect (MySQL 8+ and MariaDB 10.11+). Times are UTC.
-- Every table carries updated_at, set by the server on each change and indexed: the cursor of
-- incremental loads.
-- Statements are separated by a semicolon at the end of a line.

CREATE TABLE customers (
  id                BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email             VARCHAR(254) NULL,
  full_name         VARCHAR(200) NOT NULL,
  phone             VARCHAR(32) NULL,
  birth_date        DATE NULL,
  gender            ENUM('f','m','x') NULL,
  loyalty_tier      ENUM('none','bronze','silver','gold') NOT NULL DEFAULT 'none',
  marketing_consent TINYINT(1) NOT NULL DEFAULT 0,
  created_at        DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at        DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (updated_at, id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE addresses (
  id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id  BIGINT UNSIGNED NOT NULL,
  kind         ENUM('billing','shipping') NOT NULL,
  line1        VARCHAR(200) NOT NULL,
  line2        VARCHAR(200) NULL,
  city         VARCHAR(100) NOT NULL,
  region       VARCHAR(100) NULL,
  postal_code  VARCHAR(16) NULL,
  country_code CHAR(2) NOT NULL,
  latitude     DECIMAL(9,6) NULL,
  longitude    DECIMAL(9,6) NULL,
  is_primary   TINYINT(1) NOT NULL,
  created_at   DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at   DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (customer_id),
  KEY (updated_at, id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE stores (
  id            INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  code          VARCHAR(16) NOT NULL UNIQUE,
  name          VARCHAR(100) NOT NULL,
  channel       ENUM('online','physical') NOT NULL,
  country_code  CHAR(2) NOT NULL,
  city          VARCHAR(100) NULL,
  region        VARCHAR(100) NULL,
  opened_on     DATE NOT NULL,
  closed_on     DATE NULL,
  floor_area_m2 DECIMAL(8,2) NULL,
  created_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE vendors (
  id            INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name          VARCHAR(200) NOT NULL,
  country_code  CHAR(2) NOT NULL,
  contact_email VARCHAR(254) NULL,
  contact_phone VARCHAR(32) NULL,
  rating        DECIMAL(3,2) NULL,
  is_active     TINYINT(1) NOT NULL DEFAULT 1,
  created_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE employees (
  id            INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  store_id      INT UNSIGNED NOT NULL,
  full_name     VARCHAR(200) NOT NULL,
  email         VARCHAR(254) NOT NULL,
  role          ENUM('clerk','manager','warehouse','support') NOT NULL,
  hired_on      DATE NOT NULL,
  left_on       DATE NULL,
  salary_amount DECIMAL(10,2) NOT NULL,
  created_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) DEFAULT CHARSET=utf8mb4;

-- total_amount =
--   sum over lines of (quantity * unit_price - discount_amount + tax_amount) + shipping_amount
CREATE TABLE orders (
  id                  BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id         BIGINT UNSIGNED NULL,
  store_id            INT UNSIGNED NOT NULL,
  employee_id         INT UNSIGNED NULL,
  shipping_address_id BIGINT UNSIGNED NULL,
  device              ENUM('laptop','mobile','tablet') NULL,
  status              ENUM('placed','paid','shipped','delivered','cancelled') NOT NULL,
  currency            CHAR(3) NOT NULL,
  ordered_at          DATETIME(6) NOT NULL,
  promised_on         DATE NULL,
  shipping_amount     DECIMAL(12,2) NOT NULL,
  total_amount        DECIMAL(14,2) NOT NULL,
  note                TEXT NULL,
  updated_at          DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (updated_at, id)
) DEFAULT CHARSET=utf8mb4;

-- unit_price is before discount and tax, unit_cost is what the shop paid. created_at equals the
-- order's ordered_at.
CREATE TABLE order_lines (
  order_id        BIGINT UNSIGNED NOT NULL,
  line_number     SMALLINT UNSIGNED NOT NULL,
  product_id      VARCHAR(16) NOT NULL,
  variant_sku     VARCHAR(24) NULL,
  quantity        INT NOT NULL,
  unit_price      DECIMAL(12,2) NOT NULL,
  unit_cost       DECIMAL(12,2) NOT NULL,
  discount_amount DECIMAL(12,2) NOT NULL,
  tax_rate        DECIMAL(5,4) NOT NULL,
  tax_amount      DECIMAL(12,2) NOT NULL,
  created_at      DATETIME(6) NOT NULL,
  updated_at      DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  PRIMARY KEY (order_id, line_number),
  KEY (updated_at, order_id, line_number)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE payments (
  id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id   BIGINT UNSIGNED NOT NULL,
  method     ENUM('card','paypal','bank_transfer','voucher','cash') NOT NULL,
  status     ENUM('authorized','captured','failed','refunded') NOT NULL,
  amount     DECIMAL(12,2) NOT NULL,
  currency   CHAR(3) NOT NULL,
  paid_at    DATETIME(6) NOT NULL,
  card_last4 CHAR(4) NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (order_id),
  KEY (updated_at, id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE returns (
  id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id      BIGINT UNSIGNED NOT NULL,
  line_number   SMALLINT UNSIGNED NOT NULL,
  quantity      INT NOT NULL,
  reason        ENUM('damaged','wrong_item','not_as_described','changed_mind','late') NOT NULL,
  refund_amount DECIMAL(12,2) NOT NULL,
  returned_at   DATETIME(6) NOT NULL,
  updated_at    DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (order_id, line_number),
  KEY (updated_at, id)
) DEFAULT CHARSET=utf8mb4;

CREATE TABLE inventory (
  store_id         INT UNSIGNED NOT NULL,
  product_id       VARCHAR(16) NOT NULL,
  quantity_on_hand INT NOT NULL,
  reorder_point    INT NOT NULL,
  updated_at       DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  PRIMARY KEY (store_id, product_id),
  KEY (updated_at, store_id, product_id)
) DEFAULT CHARSET=utf8mb4;

-- quantity is signed; the movements of a store and product sum to its quantity_on_hand.
CREATE TABLE inventory_movements (
  id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  store_id   INT UNSIGNED NOT NULL,
  product_id VARCHAR(16) NOT NULL,
  kind       ENUM('receipt','sale','return','adjustment','transfer') NOT NULL,
  quantity   INT NOT NULL,
  order_id   BIGINT UNSIGNED NULL,
  moved_at   DATETIME(6) NOT NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  KEY (store_id, product_id),
  KEY (updated_at, id)
) DEFAULT CHARSET=utf8mb4;
