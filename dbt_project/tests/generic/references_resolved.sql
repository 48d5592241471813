{#-
  Every key of a fact finds its dimension row, and no more than a share of them finds the unknown
  member. `references`: for each key column, `to` (the dimension) and `max_unknown_pct`; `key`
  where the dimension calls it otherwise, `unknown` where the unknown member is not all zeros. One
  scan of the fact; each row returned is a key that fails.
-#}
{% test references_resolved(model, references) %}
    with counts as (
        select
            count(*) as row_count
            {% for column, reference in references.items() %}
            , count(*) filter (where {{ column }}_dimension.{{ reference.key or column }} is null)
                as {{ column }}_dangling
            , count(*) filter (where fact.{{ column }} = {{ reference.unknown or unknown_key() }})
                as {{ column }}_unknown
            {% endfor %}
        from {{ model }} as fact
        {% for column, reference in references.items() %}
        left join {{ reference.to }} as {{ column }}_dimension
            on {{ column }}_dimension.{{ reference.key or column }} = fact.{{ column }}
        {% endfor %}
    )

    {% for column, reference in references.items() %}
    select
        '{{ column }}' as key_column,
        {{ column }}_dangling as dangling_count,
        {{ column }}_unknown as unknown_count,
        round(100.0 * {{ column }}_unknown / row_count, 2) as unknown_pct,
        {{ reference.max_unknown_pct }} as max_unknown_pct
    from counts
    where
        {{ column }}_dangling > 0
        or 100.0 * {{ column }}_unknown > {{ reference.max_unknown_pct }} * row_count
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
{% endtest %}
