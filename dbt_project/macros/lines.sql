{#-
  What the lines of business give to a conformed model: the `columns` of int_<line>__<what> of every
  line that has that model, after `line_of_business`, the line's name. Keys are those of a source, so
  only with the line do they identify a row.

  Without such a line there are no rows. The types are then those of the model's contract. While dbt
  parses the model, it does not know the contract, and any type will do.
-#}
{% macro union_of_lines(what, columns) %}
    {% for line in contributors(what) %}
    select '{{ line }}' as line_of_business, {{ columns | join(', ') }}
    from {{ ref('int_' ~ line ~ '__' ~ what) }}
    {% if not loop.last %}union all{% endif %}
    {% else %}
    select
        null::text as line_of_business,
        {% for column in columns %}
        {% set type = model.columns.get(column, {}).data_type or 'text' %}
        null::{{ type }} as {{ column }}{{ "," if not loop.last }}
        {% endfor %}
    where false
    {% endfor %}
{% endmacro %}
