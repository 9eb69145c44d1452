"""Statistics that decisions rest on: each function says what it assumes and where it comes from.

Knows: numbers. Must not know: events, gates, who asks. Kept apart so that a referee can look at every formula by itself, and
simulate whole rollouts by the functions that decide real ones.
"""

from feedback.statistics.bounded import bounded_add as bounded_add
from feedback.statistics.deciding import Decision as Decision
from feedback.statistics.deciding import Tallies as Tallies
from feedback.statistics.deciding import decide as decide
from feedback.statistics.harm import harm_log_e as harm_log_e
from feedback.statistics.harm import late_harm_log_e as late_harm_log_e
from feedback.statistics.margin import margin_log_e as margin_log_e
from feedback.statistics.margin import relative_margin_log_e as relative_margin_log_e
from feedback.statistics.plan import Metric as Metric
from feedback.statistics.plan import Plan as Plan
from feedback.statistics.plan import Stage as Stage
from feedback.statistics.replaying import Units as Units
from feedback.statistics.replaying import replay as replay
from feedback.statistics.sample_ratio import sample_ratio_log_e as sample_ratio_log_e
from feedback.statistics.shadow import shadow_add as shadow_add
from feedback.statistics.shadow import shadow_empty as shadow_empty
from feedback.statistics.shadow import shadow_log_e as shadow_log_e
from feedback.statistics.tallies import Strata as Strata
from feedback.statistics.tallies import add as add
