{#-
  What the lines of business give to a conformed model: the `columns` of int_<line>__<what> of every line that has that
  model. Without such a line there are no rows; the types are then those of the conformed model's contract.
  The contract is not known yet when dbt parses the model. Any type will do then.
-#}
{% macro union_of_lines(what, columns) %}
    {% for line in contributors(what) %}
    select {{ columns | join(', ') }}
    from {{ ref('int_' ~ line ~ '__' ~ what) }}
    {% if not loop.last %}union all{% endif %}
    {% else %}
    select
        {% for column in columns %}
        null::{{ model.columns.get(column, {}).data_type or 'text' }} as {{ column }}{{ "," if not loop.last }}
        {% endfor %}
    where false
    {% endfor %}
{% endmacro %}
