select
    {{ surrogate_key(['visits.visit_id']) }} as visit_key,
    coalesce(customers.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(drinks.drink_key, {{ unknown_key() }}) as drink_key,
    {{ date_key('visits.visited_at') }} as visit_date,
    {{ time_of_day_key('visits.visited_at') }} as time_of_day_key,
    visits.visited_at,
    visits.amount
from {{ ref('stg_cafe__visits') }} as visits
left join {{ ref('dim_drink') }} as drinks on drinks.drink_id = visits.drink_id
left join {{ ref('dim_customer') }} as customers
    on
        visits.customer_id = customers.customer_id
        and customers.line_of_business = 'cafe'
        and {{ is_valid_at('customers', 'visits.visited_at') }}
