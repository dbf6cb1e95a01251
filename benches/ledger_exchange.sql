-- One exchange with the ledger, for pgbench: `-D own=0` all clients at one lane, `-D own=1` each at a lane of its own.
-- The schema must be there with a worker for each client: docs/scaling.md says how.
\set worker :client_id + 1
\set lane :client_id * :own
SELECT * FROM ledger_exchange(
    :worker, 1, 0, ARRAY['lane/' || (:lane)::int], ARRAY['requests'], ARRAY[60000000], ARRAY[60000],
    ARRAY[60325000], ARRAY[1], ARRAY[40], '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'
);
