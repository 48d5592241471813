CREATE INDEX look_ups_by_subject ON serving.look_ups USING gin (subjects);
