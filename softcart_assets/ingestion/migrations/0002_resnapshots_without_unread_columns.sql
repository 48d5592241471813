-- Nothing reads them: the merge takes the columns from the relation itself, and an error is raised where it happens.
ALTER TABLE ingestion.resnapshots DROP COLUMN columns, DROP COLUMN error;
