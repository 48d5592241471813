{#-
  The events in `column` are in the calendar, and not after the load of their rows. The facts give
  the others the unknown date, so they are in no period and move no window.
-#}
{% test dated_plausibly(model, column) %}
    select
        *,
        {{ column }} as dated_at
    from {{ model }}
    where not ({{ is_dated_plausibly(column, '_loaded_at') }})
{% endtest %}
