"""What dialogs of tests say, as pairs and as messages."""

U, A, S = ("user", "Hi."), ("assistant", "Hello."), ("system", "Be brief.")
SAID = [S, U, A]
USER, REPLY = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}
SYSTEM = {"role": "system", "content": "Be brief."}
