{#-
  The versions of each natural key, a list of columns, cover all of time once: the first begins in
  1900, each begins where the one before ends, they are numbered from 1, none is empty, and the last,
  alone, is current. The unknown member has no natural key and is left out.
-#}
{% test scd2_intervals(model, natural_key) %}
    with versions as (
        select
            {{ natural_key | join(', ') }},
            version_number,
            valid_from,
            valid_to,
            is_current,
            row_number() over by_time as expected_number,
            lag(valid_to, 1, '1900-01-01 00:00+00') over by_time as expected_from,
            lead(valid_from) over by_time is null as is_last
        from {{ model }}
        where ({{ natural_key | join(', ') }}) is not null
        window by_time as (partition by {{ natural_key | join(', ') }} order by valid_from, valid_to)
    )

    select *
    from versions
    where
        version_number <> expected_number
        or valid_from <> expected_from
        or valid_to <= valid_from
        or is_current <> is_last
        or is_last <> (valid_to = '9999-12-31 00:00+00')
{% endtest %}
