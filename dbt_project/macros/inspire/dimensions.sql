{#- What the facts of the line share: the customer as of an instant, and local times. -#}

{#- The customer for `rows_with_stale_key`; `instant` is the fact's time. -#}
{% macro inspire_customer(instant) %}
    {{ return({
        'customer': {
            'relation': ref('dim_customer'), 'natural_key': 'customer_id',
            'key': 'customer_key', 'instant': instant, 'line': 'inspire',
        },
    }) }}
{% endmacro %}

{#- The join of a fact's rows `events` with the user's version of that time. -#}
{% macro join_inspire_customer(events, instant) %}
left join {{ ref('dim_customer') }} as customer
    on
        {{ events }}.user_id = customer.customer_id
        and customer.line_of_business = 'inspire'
        and {{ is_valid_at('customer', events ~ '.' ~ instant) }}
{% endmacro %}

{#-
  The joins of a workout with the user's present form and the main goal of its `day`. `user_id` and
  `day` are expressions.
-#}
{% macro join_workout_circumstances(user_id, day) %}
left join {{ ref('dim_customer') }} as latest
    on
        {{ user_id }} = latest.customer_id
        and latest.line_of_business = 'inspire'
        and latest.is_current
        and not latest.is_deleted
left join {{ ref('int_inspire__goal_periods') }} as period
    on
        {{ user_id }} = period.user_id
        and {{ is_valid_at('period', day) }}
{% endmacro %}

{#-
  The age on a day. It is made of today's date of birth, because people tell it late, and it never
  changes. It is null on the unknown date, and for whom the source has deleted.
-#}
{% macro age_years(day, birth_date) -%}
    case
        when {{ day }} >= {{ birth_date }}
            then extract(year from age({{ day }}::timestamp, {{ birth_date }}::timestamp))::integer
    end
{%- endmacro %}

{#-
  A query: the time zones that PostgreSQL knows. An unknown one would be an error in the middle of
  all rows. So the facts join these names, and a time in an unknown zone has no day and no minute.
-#}
{% macro known_zones() -%}
    select name from pg_timezone_names
{%- endmacro %}

{#- The kilograms that a workout's sets moved, exactly; null without sets. -#}
{% macro moved_kg(sets) -%}
    (
        select
            sum(
                ({{ json_number("one.entry -> 'repetitions'", limit="1e6") }})
                * ({{ json_number("one.entry -> 'load_kg'", limit="1e6") }})
            )
        from jsonb_array_elements({{ json_of_type(sets, 'array') }}) as one (entry)
    )::numeric(18, 3)
{%- endmacro %}
