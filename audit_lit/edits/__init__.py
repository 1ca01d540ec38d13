"""Makes activation edits with the decoder's gradient, and measures them beside their controls."""
