{#- Every row satisfies the expression; a row for which it is null does not. -#}
{% test satisfies(model, expression) %}
    select *
    from {{ model }}
    where ({{ expression }}) is not true
{% endtest %}
