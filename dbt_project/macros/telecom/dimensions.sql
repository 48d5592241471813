{#-
  What the facts of the line share: the joins to a subscriber, the customer and the plan as of an
  instant, and the rows for which they answer otherwise than before.
-#}

{#- The dimensions for `rows_with_stale_key`; `instant` is the fact's time. -#}
{% macro telecom_dimensions(instant) %}
    {{ return({
        'subscriber': {
            'relation': ref('dim_subscriber'), 'natural_key': 'subscriber_id',
            'key': 'subscriber_key', 'instant': instant,
        },
        'customer': {
            'relation': ref('dim_customer'), 'natural_key': 'customer_id',
            'key': 'customer_key', 'instant': instant, 'line': 'telecom',
        },
        'plan': {
            'relation': ref('dim_plan'), 'natural_key': 'plan_id',
            'key': 'plan_key', 'instant': instant,
        },
    }) }}
{% endmacro %}

{#- The `columns` of the rows of a fact whose keys, or whose plan, are out of date. -#}
{% macro telecom_rows_with_stale_key(columns, instant) %}
    {{ rows_with_stale_key(
        columns,
        telecom_dimensions('fact.' ~ instant),
        joins="left join " ~ ref('int_telecom__plan_periods') ~ " as period"
            ~ " on fact.subscriber_id = period.subscriber_id"
            ~ " and " ~ is_valid_at('period', 'fact.' ~ instant),
        or_rows="fact.subscription_id in (select change.subscription_id"
            ~ " from dimension_changes as change where change.subscription_id is not null)",
        or_stale="fact.subscription_id is distinct from period.subscription_id"
            ~ " or fact.plan_id is distinct from coalesce(period.plan_id, subscriber.plan_id)",
    ) }}
{% endmacro %}

{#-
  The fact has the plan that its subscriber had at `instant`. The sums of a fact by kind and currency
  do not show a row that kept another one's plan.
-#}
{% test plan_of_its_time(model, instant) %}
    select
        fact.subscriber_id,
        fact.{{ instant }},
        fact.subscription_id,
        fact.plan_id,
        period.subscription_id as expected_subscription_id,
        period.plan_id as expected_plan_id
    from {{ model }} as fact
    left join {{ ref('int_telecom__plan_periods') }} as period
        on
            fact.subscriber_id = period.subscriber_id
            and {{ is_valid_at('period', 'fact.' ~ instant) }}
    where
        fact.subscription_id is distinct from period.subscription_id
        or fact.plan_id <> period.plan_id
{% endtest %}

{#-
  The joins of a fact's rows `events` with their subscriber, customer and plan. Without a
  subscription, the plan is that of the subscriber. So is the customer, unless the rows have a
  `customer_id` of their own.
-#}
{% macro join_telecom_dimensions(events, instant, customer_id='subscriber.customer_id') %}
left join {{ ref('dim_subscriber') }} as subscriber
    on
        {{ events }}.subscriber_id = subscriber.subscriber_id
        and {{ is_valid_at('subscriber', events ~ '.' ~ instant) }}
left join {{ ref('dim_customer') }} as customer
    on
        {{ customer_id }} = customer.customer_id
        and customer.line_of_business = 'telecom'
        and {{ is_valid_at('customer', events ~ '.' ~ instant) }}
left join {{ ref('int_telecom__plan_periods') }} as period
    on
        {{ events }}.subscriber_id = period.subscriber_id
        and {{ is_valid_at('period', events ~ '.' ~ instant) }}
left join {{ ref('dim_plan') }} as plan
    on
        coalesce(period.plan_id, subscriber.plan_id) = plan.plan_id
        and {{ is_valid_at('plan', events ~ '.' ~ instant) }}
{% endmacro %}
