{#- A day's rows belong to the dimension versions valid in its last microsecond. -#}
{% set fact_instant =
    "(fact.inventory_date + 1)::timestamp at time zone 'UTC' - interval '1 microsecond'" %}

{% set has_movements =
    "received_quantity <> 0 or sold_quantity <> 0 or returned_quantity <> 0"
    ~ " or transferred_quantity <> 0 or adjusted_quantity <> 0" %}

{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['store_id', 'product_id', 'inventory_date'],
    indexes=[
        {'columns': ['inventory_date', 'store_id', 'product_id']},
        {'columns': ['inventory_daily_key'], 'unique': true},
    ],
    pre_hook="create index if not exists inventory_movements_moved_at
        on raw_shop.inventory_movements ((moved_at at time zone 'UTC'))",
    post_hook=[
        "delete from {{ this }}
        where inventory_date = any(array(
            select outside::date
            from (select {{ last_inventory_date() }} as last_date) as last_day
            cross join (
                select min(inventory_date) as first_date, max(inventory_date) as last_date
                from {{ this }}
            ) as present
            cross join generate_series(present.first_date, present.last_date, interval '1 day')
                as series (outside)
            where outside::date not between
                last_day.last_date - {{ inventory_days() }} + 1 and last_day.last_date
        ))",
        "delete from {{ this }} as fact
        using ({{ changed_since_last_run(ref('stg_shop__deleted_rows'), 'seen_before') }}) as gone
        where gone.changed_table = 'raw_shop.inventory'
        and gone.store_id = fact.store_id
        and gone.product_id = fact.product_id
        and not exists (
            select 1 from {{ ref('stg_shop__inventory') }} as shelf
            where shelf.store_id = fact.store_id and shelf.product_id = fact.product_id
        )",
        "create index if not exists fct_inventory_daily_has_movements
        on {{ this }} (store_id, product_id, inventory_date) where " ~ has_movements,
    ],
) }}

{# dbt parses the model as one that is not incremental, and must learn of these. #}
{% if not execute %}
{% do [ref('int_shop__inventory_changes'), ref('int_shop__dimension_changes')] %}
{% endif %}

-- The quantity on hand was counted, so balances run back from it. If the movements do not explain
-- it, the opening balance of the first day has the difference. The test
-- inventory_explained_by_movements reports it.
with
last_day as (
    select {{ last_inventory_date() }} as last_date
),

days as (
    select last_day.last_date - series.days_before as inventory_date
    from last_day
    cross join generate_series(0, {{ inventory_days() }} - 1) as series (days_before)
),

-- Movements dated after the last day count on the last day.
dated_movements as (
    select
        movements.store_id,
        movements.product_id,
        movements.movement_kind,
        movements.quantity,
        last_day.last_date,
        least((movements.moved_at at time zone 'UTC')::date, last_day.last_date) as inventory_date
    from {{ ref('stg_shop__inventory_movements') }} as movements
    cross join last_day
    where
        movements.moved_at >= (
            select (window_end.last_date - {{ inventory_days() }} + 1)::timestamp at time zone 'UTC'
            from last_day as window_end
        )
        -- True. PostgreSQL takes what is between two limits for a small part of the table, and
        -- reads it by the index.
        and movements.moved_at <= (select timestamptz 'infinity')
),

moved as (
    select
        store_id,
        product_id,
        inventory_date,
        coalesce(sum(quantity) filter (where movement_kind = 'receipt'), 0)::bigint
            as received_quantity,
        -coalesce(sum(quantity) filter (where movement_kind = 'sale'), 0)::bigint
            as sold_quantity,
        coalesce(sum(quantity) filter (where movement_kind = 'return'), 0)::bigint
            as returned_quantity,
        coalesce(sum(quantity) filter (where movement_kind = 'transfer'), 0)::bigint
            as transferred_quantity,
        coalesce(
            sum(quantity) filter (
                where movement_kind not in ('receipt', 'sale', 'return', 'transfer')
            ), 0
        )::bigint as adjusted_quantity,
        sum(quantity)::bigint as net_quantity
    from dated_movements
    group by store_id, product_id, inventory_date
),

{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_shop__dimension_changes')) }}),

-- Pairs to compute as a whole: the count at the source or a movement of these days changed, the
-- window moved on, or a dimension may give another answer than before. Movements are compared with
-- what the fact has of them, because one that moves to another store or product leaves no trace at
-- the old one.
touched_pairs as (
    select
        store_id,
        product_id
    from ({{ changed_since_last_run(ref('int_shop__inventory_changes')) }}) as inventory_changes
    union
    select
        store_id,
        product_id
    from {{ ref('stg_shop__inventory') }}
    where
        (select last_day.last_date from last_day)
        is distinct from (select max(fact.inventory_date) from {{ this }} as fact)
        or store_id in (
            select change.store_id from dimension_changes as change
            where change.store_id is not null
        )
        or product_id in (
            select change.product_id from dimension_changes as change
            where change.product_id is not null
        )
    union
    select
        coalesce(fact.store_id, moved.store_id) as store_id,
        coalesce(fact.product_id, moved.product_id) as product_id
    from (
        select *
        from {{ this }}
        where {{ has_movements }}
    ) as fact
    full join moved
        on
            fact.store_id = moved.store_id
            and fact.product_id = moved.product_id
            and fact.inventory_date = moved.inventory_date
    where
        coalesce(fact.received_quantity, 0) <> coalesce(moved.received_quantity, 0)
        or coalesce(fact.sold_quantity, 0) <> coalesce(moved.sold_quantity, 0)
        or coalesce(fact.returned_quantity, 0) <> coalesce(moved.returned_quantity, 0)
        or coalesce(fact.transferred_quantity, 0) <> coalesce(moved.transferred_quantity, 0)
        or coalesce(fact.adjusted_quantity, 0) <> coalesce(moved.adjusted_quantity, 0)
),
{% endif %}

shelves as {{ only_touched(ref('stg_shop__inventory'), 'store_id, product_id', 'touched_pairs') }},

fact as (
    select
        shelves.store_id,
        shelves.product_id,
        days.inventory_date,
        coalesce(moved.received_quantity, 0) as received_quantity,
        coalesce(moved.sold_quantity, 0) as sold_quantity,
        coalesce(moved.returned_quantity, 0) as returned_quantity,
        coalesce(moved.transferred_quantity, 0) as transferred_quantity,
        coalesce(moved.adjusted_quantity, 0) as adjusted_quantity,
        coalesce(moved.net_quantity, 0) as net_quantity,
        shelves.quantity_on_hand - coalesce(
            sum(moved.net_quantity) over (
                partition by shelves.store_id, shelves.product_id
                order by days.inventory_date desc
                rows between unbounded preceding and 1 preceding
            ), 0
        )::bigint as closing_quantity
    from shelves
    cross join days
    left join moved
        on
            shelves.store_id = moved.store_id
            and shelves.product_id = moved.product_id
            and days.inventory_date = moved.inventory_date
),

made as (
    select
        {{ surrogate_key(['fact.store_id', 'fact.product_id', 'fact.inventory_date']) }}
            as inventory_daily_key,
        coalesce(store.store_key, {{ unknown_key() }}) as store_key,
        coalesce(product.product_key, {{ unknown_key() }}) as product_key,
        fact.store_id,
        fact.product_id,
        fact.inventory_date,
        fact.closing_quantity - fact.net_quantity as opening_quantity,
        fact.received_quantity,
        fact.sold_quantity,
        fact.returned_quantity,
        fact.transferred_quantity,
        fact.adjusted_quantity,
        fact.closing_quantity,
        fact.closing_quantity <= 0 as is_out_of_stock
    from fact
    left join {{ ref('dim_store') }} as store
        on
            fact.store_id = store.store_id
            and {{ is_valid_at('store', fact_instant) }}
    left join {{ ref('dim_product') }} as product
        on
            fact.product_id = product.product_id
            and {{ is_valid_at('product', fact_instant) }}
)

{{ rows_to_write(
    'made',
    key=['store_id', 'product_id', 'inventory_date'],
    values=[
        'store_key', 'product_key', 'opening_quantity', 'received_quantity', 'sold_quantity',
        'returned_quantity', 'transferred_quantity', 'adjusted_quantity', 'closing_quantity',
    ],
) }}
