"""Never ends: a test shows that its time limit does."""

import threading

threading.Event().wait()
