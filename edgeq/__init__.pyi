"""The public names of `edgeq`, for type checkers and editors; at run time they are loaded when they are first used."""

from edgeq.benchmarking import Benchmark as Benchmark
from edgeq.benchmarking import Measurement as Measurement
from edgeq.benchmarking import bench as bench
from edgeq.benchmarking import bench_devices as bench_devices
from edgeq.bundling import Bundle as Bundle
from edgeq.bundling import bundle as bundle
from edgeq.bundling import write_c_array as write_c_array
from edgeq.calibration import CalibrationSet as CalibrationSet
from edgeq.calibration import SyntheticSet as SyntheticSet
from edgeq.calibration import choose_images as choose_images
from edgeq.calibration import synthesize_calibration as synthesize_calibration
from edgeq.classification import Classification as Classification
from edgeq.classification import Prediction as Prediction
from edgeq.classification import top_predictions as top_predictions
from edgeq.comparison import BackendComparison as BackendComparison
from edgeq.comparison import Comparison as Comparison
from edgeq.comparison import LayerDrift as LayerDrift
from edgeq.comparison import ModelResult as ModelResult
from edgeq.comparison import compare as compare
from edgeq.comparison import compare_backends as compare_backends
from edgeq.comparison.tensor_result import OutputDrift as OutputDrift
from edgeq.comparison.tensor_result import SampleDrift as SampleDrift
from edgeq.comparison.tensor_result import TensorComparison as TensorComparison
from edgeq.comparison.tensors import compare_tensors as compare_tensors
from edgeq.conversion import Conversion as Conversion
from edgeq.conversion import ConvertedModel as ConvertedModel
from edgeq.conversion import convert as convert
from edgeq.errors import EdgeqError as EdgeqError
from edgeq.inference import classify as classify
from edgeq.inference import classify_all as classify_all
from edgeq.inference.tensors import TensorAnswer as TensorAnswer
from edgeq.inference.tensors import infer_tensors as infer_tensors
from edgeq.inspection import Inspection as Inspection
from edgeq.inspection import TargetReport as TargetReport
from edgeq.inspection import check_target as check_target
from edgeq.inspection import inspect as inspect
from edgeq.networks import Architecture as Architecture
from edgeq.networks import Network as Network
from edgeq.networks import NetworkSummary as NetworkSummary
from edgeq.networks import build_network as build_network
from edgeq.networks import open_network as open_network
from edgeq.networks import summarize as summarize
from edgeq.preprocessing import Preprocessing as Preprocessing
from edgeq.preprocessing import parse_normalization as parse_normalization
from edgeq.quantization import Quantization as Quantization
from edgeq.refinement import RefinedModel as RefinedModel
from edgeq.refinement import Refinement as Refinement
from edgeq.refinement import refine as refine
from edgeq.report.markdown import write_markdown as write_markdown
from edgeq.report.page import write_report as write_report
from edgeq.runtime import Model as Model
from edgeq.runtime import TensorModel as TensorModel
from edgeq.runtime.admission import trusting as trusting
from edgeq.tflite.metadata import ModelMetadata as ModelMetadata
from edgeq.tflite.metadata import Overrides as Overrides
from edgeq.tflite.metadata import read_labels as read_labels
from edgeq.tflite.metadata import read_metadata as read_metadata
from edgeq.training import Trained as Trained
from edgeq.training import TrainingPlan as TrainingPlan
from edgeq.training import train as train

__all__: list[str]
_HOMES: dict[str, str]
__version__: str
