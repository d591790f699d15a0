"""Score a trained model on data it never saw, or predict what comes next.

python eval.py RUN                                   # the test part of the run's own data
python eval.py RUN --data DIR                        # all of another folder
python eval.py RUN --data DIR --forecast 12 --out F  # the 12 frames after the last ones
"""

from jaxconvlstm.tools import start

if __name__ == "__main__":
    start.command("tools.eval")
