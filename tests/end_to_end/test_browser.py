"""What a person sees in a browser: runs side by side in the MLflow UI, and the report of a study."""

import base64
import json
import os
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from browsing import complaints, opened_browser, requests, served
from mlflow.tracking import MlflowClient
from pypdf import PdfReader
from untrained_study import make_study

from ultrarefiner_monai.reports.report import report
