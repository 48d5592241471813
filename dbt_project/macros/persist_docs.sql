{#-
  Descriptions as comments, as dbt's own macro writes them, but only those that differ from what is
  there. dbt's own writes them all in each run, which locks the table against changes of its
  structure and leaves dead rows in the catalog. This takes one query, and writes nothing when
  nothing changed.
-#}
{% macro postgres__persist_docs(relation, model, for_relation, for_columns) %}
    {%- set wanted = {} -%}
    {%- if for_relation and config.persist_relation_docs() and model.description -%}
        {%- do wanted.update({'': model.description}) -%}
    {%- endif -%}
    {%- if for_columns and config.persist_column_docs() -%}
        {%- for name, column in model.columns.items() -%}
            {%- do wanted.update({name: column.description}) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if wanted -%}
        {%- set table = relation.include(database=false) -%}
        {%- do run_query("
            do $comments$
            declare
                each record;
            begin
                for each in
                    select
                        coalesce('column " ~ table ~ ".' || quote_ident(attname), 'table " ~ table ~ "')
                            as place,
                        value as text
                    from jsonb_each_text('" ~ tojson(wanted) | replace("'", "''") ~ "'::jsonb)
                    left join pg_attribute
                        on attrelid = '" ~ table ~ "'::regclass and attname = key
                        and attnum > 0 and not attisdropped
                    left join pg_description
                        on objoid = '" ~ table ~ "'::regclass and classoid = 'pg_class'::regclass
                        and objsubid = coalesce(attnum, 0)
                    where (key = '' or attname is not null) and value <> coalesce(description, '')
                loop
                    execute format('comment on %s is %L', each.place, each.text);
                end loop;
            end $comments$
        ") -%}
    {%- endif -%}
{% endmacro %}
