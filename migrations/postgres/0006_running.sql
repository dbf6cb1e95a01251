-- How many calls of which batches a worker has in flight, as of its last beat: together they are what a batch's counts show at
-- any of them. Two lists of the same length, in the order of the batches.
ALTER TABLE worker
    ADD COLUMN running_batches BIGINT[] NOT NULL DEFAULT '{}',
    ADD COLUMN running_calls   BIGINT[] NOT NULL DEFAULT '{}';
