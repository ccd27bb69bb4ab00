"""The picture that the program of start.md draws."""

from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from torchlinreg import TorchLinearRegressor

train, test = train_test_split(load_diabetes(as_frame=True, scaled=False).frame, random_state=0)
columns = make_column_transformer((OneHotEncoder(), ["sex"]), ("passthrough", ["age", "bmi", "bp", "s1", "s5"]))
model = make_pipeline(columns, TorchLinearRegressor(penalty="l2")).fit(train, train["target"])
display = PredictionErrorDisplay.from_estimator(model, test, test["target"])
display.figure_.set_size_inches(5, 3.5)
