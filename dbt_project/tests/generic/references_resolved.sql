{#-
  Every key of a fact finds its dimension row. `references`: for each key column, `to` (the
  dimension). `key` where the dimension calls it otherwise, `unknown` where the unknown member is not
  all zeros. One scan of the fact. Each row returned is a key that fails.

  How many rows may find the unknown member is a limit of the publication, which a person can accept
  once: `max_unknown_pct` of the rows that meet `where` (all without it), and a `reason`. With 100, it
  needs none.
-#}
{% test references_resolved(model, references) %}
    with counts as (
        select
            {% for column, reference in references.items() %}
            count(*) filter (where {{ column }}_dimension.{{ reference.key or column }} is null)
                as {{ column }}_dangling{{ ',' if not loop.last }}
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
        {{ column }}_dangling as dangling_count
    from counts
    where {{ column }}_dangling > 0
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
{% endtest %}
