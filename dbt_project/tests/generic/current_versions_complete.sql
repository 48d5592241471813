{#-
  A type 2 dimension has a current version that is not deleted for exactly the rows that its source
  has now.
-#}
{% test current_versions_complete(model, staging, natural_key) %}
    select
        coalesce(dimension.{{ natural_key }}, staging.{{ natural_key }}) as {{ natural_key }},
        dimension.{{ natural_key }} is null as is_missing_in_dimension
    from (
        select {{ natural_key }} from {{ model }}
        where is_current and not is_deleted and {{ natural_key }} is not null
    ) as dimension
    full join {{ staging }} as staging on staging.{{ natural_key }} = dimension.{{ natural_key }}
    where dimension.{{ natural_key }} is null or staging.{{ natural_key }} is null
{% endtest %}
