with days as (
    select day::date as date_key
    from
        generate_series(
            '{{ var("calendar_start") }}'::date,
            '{{ var("calendar_end") }}'::date - 1,
            interval '1 day'
        ) as day
    union all
    select {{ unknown_date() }} as date_key
)

select
    date_key,
    extract(year from date_key)::integer as year,
    extract(quarter from date_key)::integer as quarter,
    extract(month from date_key)::integer as month,
    date_trunc('month', date_key)::date as month_start_date,
    to_char(date_key, 'FMMonth') as month_name,
    extract(isoyear from date_key)::integer as iso_year,
    extract(week from date_key)::integer as iso_week,
    extract(day from date_key)::integer as day_of_month,
    extract(isodow from date_key)::integer as day_of_week,
    to_char(date_key, 'FMDay') as day_name,
    extract(isodow from date_key) in (6, 7) as is_weekend
from days
