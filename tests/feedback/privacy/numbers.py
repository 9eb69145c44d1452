"""Numbers as people write them, to draw from."""

from __future__ import annotations

from hypothesis import strategies as st

WORDS = ("order", "Ticket", "ref:", "call me", "tel.", "my id is", "BSN", "ssn", "passport no", "订单", "电话", "")
SAID = st.builds(
    "{} {}{}".format,
    st.sampled_from(WORDS),
    st.sampled_from(["", "X", "x", "ext ", "DE", "#", "+", "(", "K-"]),
    st.text("0123456789 -.", min_size=4, max_size=14),
)
"""Numbers behind words that say what they are."""
