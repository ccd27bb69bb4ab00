"""
A mixed frame in a pipeline
===========================

Text, gaps and numbers side by side: each column goes through the transformer that suits it, and the estimator comes
last. A column that is no number and has no transformer would be refused by its name.
"""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from torchlinreg import TorchLinearRegressor

rng = np.random.default_rng(0)
soil = rng.choice(["clay", "loam", "sand"], 400)
rain = rng.normal(700, 120, 400)  # millimetres a year
nitrogen = rng.gamma(4, 30, 400)  # kilograms a hectare
harvest = 0.008 * rain + 0.02 * nitrogen - 2.0 * (soil == "sand") + rng.normal(0, 0.5, 400)  # tons a hectare
fields = pd.DataFrame({"soil": soil, "rain": rain, "nitrogen": nitrogen})
fields.loc[rng.random(400) < 0.1, "rain"] = np.nan  # the gauge was broken

columns = make_column_transformer(
    (OneHotEncoder(), ["soil"]), (SimpleImputer(add_indicator=True), ["rain"]), ("passthrough", ["nitrogen"])
)
model = make_pipeline(columns, TorchLinearRegressor())
display = PredictionErrorDisplay.from_predictions(
    harvest, cross_val_predict(model, fields, harvest), kind="actual_vs_predicted"
)
display.ax_.set(xlabel="predicted harvest (t/ha)", ylabel="actual harvest (t/ha)")
