{#-
  A type 2 dimension has a current version that is not deleted for exactly the rows that its source
  has now. `natural_key` is a list of columns.
-#}
{% test current_versions_complete(model, staging, natural_key) %}
    select
        {% for column in natural_key %}
        coalesce(dimension.{{ column }}, staging.{{ column }}) as {{ column }},
        {% endfor %}
        dimension.{{ natural_key[0] }} is null as is_missing_in_dimension
    from (
        select {{ natural_key | join(', ') }} from {{ model }}
        where is_current and not is_deleted and ({{ natural_key | join(', ') }}) is not null
    ) as dimension
    full join {{ staging }} as staging
        on
            {% for column in natural_key %}
            {{ 'and ' if not loop.first }}staging.{{ column }} = dimension.{{ column }}
            {% endfor %}
    where dimension.{{ natural_key[0] }} is null or staging.{{ natural_key[0] }} is null
{% endtest %}
