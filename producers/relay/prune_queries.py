# ruff: noqa: S608 - every text here is a constant, put together from constants
"""What `iu relay prune` asks of the database, as role iu_owner. Values are bound by name."""

from typing import Final

_BOUND: Final = "%(before)s, %(newest)s::bigint[], %(blocked)s::uuid[], %(older_than)s"
# Baselines that are lacking are taken before any row goes, so they count as given here. One row
# per (reason, event type); `lacking` are the trees that need one.
FORESEEN: Final = f"""
    SELECT judge.held_by, judge.event_type, count(*), min(judge.occurred_at), max(judge.occurred_at),
           (array_agg(judge.event_ref ORDER BY judge.id))[1], min(judge.id),
           array_agg(DISTINCT judge.tree_id) FILTER (WHERE judge.held_by IS NULL AND NOT judge.baseline)
      FROM public.fn_iu_outbox_judge({_BOUND}, true, 0, NULL) AS judge
     GROUP BY 1, 2
     ORDER BY 1, 2
"""
PRUNE: Final = f"""
    SELECT done.examined, done.pruned, done.last_id
      FROM public.fn_iu_outbox_prune({_BOUND}, %(after_id)s, %(window)s, %(most)s) AS done
"""
BASELINE: Final = """
    SELECT public.fn_iu_tree_baseline_take(%(tree)s, %(version)s, %(digest)s, %(actor)s, %(reason)s)
"""
