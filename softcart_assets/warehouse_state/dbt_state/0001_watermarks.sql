create schema if not exists dbt_state;
create table if not exists dbt_state.watermarks (
    model text not null,
    changes text not null,
    changed_table text not null,
    seen_until timestamptz not null,
    seen_before timestamptz not null,
    primary key (model, changes, changed_table)
);
comment on table dbt_state.watermarks is
  'Up to which _loaded_at each incremental model has seen each table that it follows; seen_before: the run before.';
