{#-
  fct_inventory_daily reaches back this many days. After a change, build it with --full-refresh.
-#}
{% macro inventory_days() %}90{% endmacro %}

{#-
  The last day of fct_inventory_daily, as a parenthesised query: that of the last movement, or of the
  last count if nothing has moved. A mistyped date must not open days to come.
-#}
{% macro last_inventory_date() %}
    (
        select coalesce(
            (
                select (max(moved_at) at time zone 'UTC')::date
                from {{ ref('stg_shop__inventory_movements') }}
                where {{ is_dated_plausibly('moved_at', '_loaded_at') }}
            ),
            (
                select (max(updated_at) at time zone 'UTC')::date
                from {{ ref('stg_shop__inventory') }}
                where {{ is_dated_plausibly('updated_at', '_loaded_at') }}
            ),
            -- Nothing has a plausible time. The stock was on hand when it was loaded.
            (
                select (max(_loaded_at) at time zone 'UTC')::date
                from {{ ref('stg_shop__inventory') }}
            )
        )
    )
{% endmacro %}
