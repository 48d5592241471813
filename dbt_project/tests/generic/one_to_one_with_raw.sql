{#- A staging view has one row per row of its raw table that is not deleted at the source; of a history, per version. -#}
{% test one_to_one_with_raw(model, raw, is_history=false) %}
    select *
    from
        (select count(*) as staging_count from {{ model }}) as staging,
        (select count(*) as raw_count from {{ raw }} {% if not is_history %}where not _deleted{% endif %}) as raw
    where staging_count <> raw_count
{% endtest %}
