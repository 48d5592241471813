{#-
  A staging view has one row per row of its raw table that is not deleted at the source. Of a
  history it has one row per version.
-#}
{% test one_to_one_with_raw(model, raw, is_history=false) %}
    select *
    from
        (select count(*) as staging_count from {{ model }}) as staging,
        (
            select count(*) as raw_count
            from {{ raw }}
            where {{ 'true' if is_history else 'not _deleted' }}
        ) as raw
    where staging_count <> raw_count
{% endtest %}
