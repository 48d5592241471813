{{ config(materialized='view') }}

-- What the source may say, and the stores, where an order has no device.
select device
from (values ('laptop'), ('mobile'), ('tablet'), ('in_store')) as devices (device)
