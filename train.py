"""Train a ConvLSTM that predicts pictures from pictures.

python train.py                             # generated moving squares
python train.py --data DIR --out RUN        # your own pictures, arrays or videos
python train.py --data DIR --out RUN --resume auto
"""

from jaxconvlstm.tools import start

if __name__ == "__main__":
    start.command("tools.train")
