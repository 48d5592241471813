{#-
  The columns together identify a row, and none of them is null. One scan, unless a unique index of
  exactly these columns proves it: then only nulls are looked up, because an index takes several.
-#}
{% test primary_key(model, columns) %}
    select {{ columns | join(', ') }}, count(*) as row_count
    from {{ model }}
{%- if is_unique_by_index(model, columns) %}

    where {{ columns | join(' is null or ') }} is null
    group by {{ columns | join(', ') }}
    {%- else %}

    group by {{ columns | join(', ') }}
    having count(*) > 1 {% for column in columns %}or {{ column }} is null {% endfor %}
    {%- endif %}

{% endtest %}
