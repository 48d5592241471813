{#-
  The versions of a type 2 slowly changing dimension, as a query: one row per `key` and version,
  with every column of `history` and valid_from, valid_to (half-open), is_current and
  version_number.

  `history` is a relation or CTE with one row per version: `key`, the `attributes`, updated_at,
  is_deleted, _committed_at, _loaded_at and _version, which alone gives the order. A version whose
  attributes equal those of the one before is dropped. The first version begins in 1900, so that
  older events find it too. Each later one begins at the source's updated_at, as long as that can be
  true. It cannot be after the commit: a typing error like 2099 would keep all corrections from
  ever being valid. Nor can it be before the updated_at of the version before. Such a version begins
  at its commit, and so does a deletion, because a deleted row has no updated_at of its own. If the
  source's log was not read, the time when we saw it stands for the commit, and an updated_at that
  goes back or stands still stands. No version is empty: it begins a microsecond after the one before
  it, or later.
-#}
{% macro scd2_versions(history, key, attributes) %}
    select
        *,
        coalesce(
            lead(valid_from) over (partition by {{ key }} order by version_number),
            '9999-12-31 00:00+00'
        ) as valid_to,
        lead(valid_from) over (partition by {{ key }} order by version_number) is null as is_current
    from (
        select
            *,
            -- The running maximum of (time - n us) + n us: the earliest times that rise strictly
            -- and are not before theirs.
            max(changed_at - version_number * interval '1 microsecond')
                over (partition by {{ key }} order by version_number rows unbounded preceding)
            + version_number * interval '1 microsecond' as valid_from
        from (
            select
                *,
                case
                    when version_number = 1 then '1900-01-01 00:00+00'
                    when is_deleted or updated_at is null then known_at
                    when
                        _committed_at is not null
                        and updated_at <= lag(updated_at)
                            over (partition by {{ key }} order by version_number)
                        then known_at
                    -- MySQL's log cuts commit times to the second.
                    when updated_at < known_at + interval '1 second' then updated_at
                    else coalesce(known_at, updated_at)
                end as changed_at
            from (
                select
                    *,
                    row_number() over (partition by {{ key }} order by _version)::integer
                        as version_number
                from (
                    select
                        *,
                        -- The time of a load is a clock of ours, which may be set back.
                        coalesce(
                            _committed_at,
                            max(_loaded_at) over (
                                partition by {{ key }}
                                order by _version rows unbounded preceding
                            )
                        ) as known_at,
                        (
                            row({{ attributes | join(', ') }}, is_deleted)
                            is distinct from lag(row({{ attributes | join(', ') }}, is_deleted))
                                over (partition by {{ key }} order by _version)
                        ) as is_change
                    from {{ history }}
                ) as compared
                where is_change
            ) as numbered
        ) as timed
    ) as begun
{% endmacro %}

{#- Whether version `alias` of an SCD2 row is the one valid at `instant`. -#}
{% macro is_valid_at(alias, instant) -%}
    {{ instant }} >= {{ alias }}.valid_from and {{ instant }} < {{ alias }}.valid_to
{%- endmacro %}

{#-
  A type 2 dimension, as a query: the rows of `versions`, a relation or CTE made of `scd2_versions`,
  each with its surrogate `key`, and the unknown member. `columns` are the others, among them the
  `natural_key`, a list. In the unknown member they are null, unless `unknown` has a text for them.
-#}
{% macro scd2_dimension(versions, key, natural_key, columns, unknown) %}
    select
        {{ version_key(natural_key, 'valid_from') }} as {{ key }},
        {% for column in columns %}
        {{ column }},
        {% endfor %}
        is_deleted,
        valid_from,
        valid_to,
        is_current,
        version_number
    from {{ versions }}
    union all
    select
        {{ unknown_key() }} as {{ key }},
        {% for column in columns %}
        {{ "'" ~ unknown[column] ~ "'" if column in unknown else 'null' }} as {{ column }},
        {% endfor %}
        false as is_deleted,
        '1900-01-01 00:00+00' as valid_from,
        '9999-12-31 00:00+00' as valid_to,
        true as is_current,
        1 as version_number
{% endmacro %}
