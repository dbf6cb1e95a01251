-- One process alone tells nobody which batches its calls in flight are of: what migrations/postgres keeps of that has no place
-- here. The number means the same in both.
SELECT 1;
