-- The models that tell what changed were called stg_…_changes. Without their new names, the first
-- build after the upgrade would take every change for a new one.
UPDATE dbt_state.watermarks
SET changes = 'int_' || substr(changes, 5)
WHERE changes LIKE 'stg\_%\_changes';
